"""The pages of the event board, and their style sheet and script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.templating import Jinja2Templates

from event_hooks import settings
from event_hooks.api.board import timeline
from event_hooks.api.links import MAX_ID
from event_hooks.api.security import MAY_READ, CanEdit
from event_hooks.api.times import parse_time
from event_hooks.events import lookups
from event_hooks.ledger import joins, overview
from event_hooks.ledger.follow_ups import list_follow_ups
from event_hooks.ledger.user_requests import STATES_TO_RETRY, RetryMode
from event_hooks.ledger.views import EventFilter, HiveBacklog, ProcessView
from event_hooks.masking import mask_secrets
from event_hooks.reports.advice import build_retry_advice
from event_hooks.reports.builder import ReportStep
from event_hooks.reports.report import METADATA_KEY, parse_message

if TYPE_CHECKING:
    from event_hooks.api.board.beekeeper_status import BeekeeperStatusCache
    from event_hooks.hive.sql.beekeepers import BeekeeperStatus
    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.records import StoredReport

router = APIRouter(include_in_schema=False, dependencies=[MAY_READ])

T = TypeVar("T")

FOLDER = FilePath(__file__).parent
FILES = ("board.css", "board.js", "actions.js")
STATES = ("open", "failed", "complete")

PAGE_SIZE = 50
"""Events of one page."""

JOINS_SHOWN = 5
"""Open joins on the start page; the page of the joins has the others."""

MAX_JOINS = 500
"""Open joins on the page of the joins."""

MAX_COUNT = 1000
"""Up to this number, the events of each state are counted."""

ATTENTION_PERIOD = timedelta(days=7)
"""Time after a failure in which an event needs attention."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' data:; form-action 'self'; frame-ancestors 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}

templates = Jinja2Templates(FOLDER / "templates")
templates.env.globals |= {
    "build_bar": timeline.build_bar,
    "format_job_count": timeline.format_job_count,
    "state_label": timeline.state_label,
}


@router.get("/board")
async def show_board(
    request: Request,
    can_edit: CanEdit,
    state: Literal["open", "failed", "complete", ""] = "",
    event_type: Annotated[str, Query(alias="type", max_length=255)] = "",
    genome: Annotated[str, Query(max_length=255)] = "",
    run: Annotated[str, Query(max_length=250)] = "",
    period: Literal["1h", "24h", "7d", "30d", ""] = "",
    number: Annotated[str, Query(max_length=20, pattern=r"^\s*[0-9]*\s*$")] = "",
    before: Annotated[int | None, Query(ge=1, le=MAX_ID)] = None,
) -> Response:
    """Show the latest events, the events that need attention, and the unfinished processes of each hive."""
    event_filter = EventFilter(
        state=state or None,
        type=event_type or None,
        genome=genome.strip() or None,
        run_id=run or None,
        since=parse_time("period", period, datetime.now(UTC)) if period else None,
        number=min(int(number), MAX_ID) if number.strip() else None,
    )
    is_start_page = event_filter == EventFilter() and before is None
    # Joins have no other field to filter by.
    has_joins = event_filter == EventFilter(genome=event_filter.genome) and before is None
    query = {"type": event_type, "genome": genome.strip(), "run": run, "period": period, "number": number}
    events = await _read(
        request, lambda ledger: overview.list_events(ledger, event_filter, before, PAGE_SIZE + 1)
    )
    attention = (
        await _read(request, lambda ledger: overview.list_events_needing_attention(ledger, ATTENTION_PERIOD))
        if is_start_page
        else []
    )
    attention_ids = {event.id for event in attention}
    return _render(
        request,
        "board.html",
        warnings=await request.app.state.airflow.load_warnings(),
        event_filter=event_filter,
        query={name: value for name, value in query.items() if value},
        before=before,
        can_edit=can_edit,
        counts=await _read(request, partial(_count_events, event_filter=event_filter)),
        is_start_page=is_start_page,
        types=lookups.load_cached().event_types,
        attention=attention,
        events=[event for event in events[:PAGE_SIZE] if event.id not in attention_ids],
        next_before=events[PAGE_SIZE - 1].id if len(events) > PAGE_SIZE else None,
        hives=await _load_hives(request) if is_start_page else [],
        page_size=PAGE_SIZE,
        open_joins=await _read(
            request, lambda ledger: joins.list_open_waits(ledger, event_filter.genome, JOINS_SHOWN)
        )
        if has_joins
        else [],
        joins_shown=JOINS_SHOWN,
        api_url=str(request.url.replace(path=request.scope.get("root_path", ""), query="")),
    )


@router.get("/board/joins")
async def show_joins(request: Request, genome: Annotated[str, Query(max_length=255)] = "") -> Response:
    """Show the open joins: the processes that wait for further events of a genome."""
    prefix = genome.strip()
    open_joins = await _read(request, lambda ledger: joins.list_open_waits(ledger, prefix or None, MAX_JOINS))
    warnings = await request.app.state.airflow.load_warnings()
    return _render(
        request, "joins.html", warnings=warnings, open_joins=open_joins, genome=prefix, max_joins=MAX_JOINS
    )


@router.get("/board/events/{event_id}")
async def show_event(
    event_id: Annotated[int, Path(ge=1, le=MAX_ID)], request: Request, can_edit: CanEdit
) -> Response:
    """Show one event with its processes and their timelines, its reports and its related events."""
    stored = await _read(request, lambda ledger: overview.load_event_view(ledger, event_id))
    if stored is None:
        raise HTTPException(404, f"event {event_id}: the ledger has no such event")
    view, payload = stored
    reports = await _read(request, lambda ledger: overview.list_reports(ledger, event_id))
    related = await _read(request, lambda ledger: overview.list_related_events(ledger, event_id))
    waits = await _read(request, lambda ledger: joins.list_waits_of_events(ledger, [event_id]))
    follow_ups = await _read(request, lambda ledger: list_follow_ups(ledger, event_id))
    now = datetime.now(UTC)
    return _render(
        request,
        "event.html",
        warnings=await request.app.state.airflow.load_warnings(),
        event=view,
        can_edit=can_edit,
        can_rerun=lambda process: process.state in STATES_TO_RETRY[RetryMode.PROCESS],
        payload=json.dumps(mask_secrets(payload), indent=2, ensure_ascii=False),
        timelines=[
            timeline.build_timeline(view, process, _find_reported_at(reports, process), now)
            for process in view.processes
        ],
        reports=reports,
        related=related if len(related) > 1 else [],
        joins=[wait for _, wait in waits],
        unsent_follow_ups=[follow_up for follow_up in follow_ups if follow_up.sent_at is None],
        guihive={name: process.guihive for name, process in lookups.load_cached().processes.items()},
        retry_advice=lambda process: build_retry_advice(process.process, _task(process)),
    )


@router.get("/board/files/{name}")
async def send_file(name: str) -> FileResponse:
    """Return the style sheet or the script of the pages."""
    if name not in FILES:
        raise HTTPException(404, "no such file")
    return FileResponse(FOLDER / "files" / name, headers={"Cache-Control": "no-cache"})


def render_error(request: Request, status: int, detail: str) -> Response:
    """Return an error page; for a 401, redirect to Airflow's login, which leads back to the page."""
    if status == 401:
        next_url = quote(f"{request.url.path}?{request.url.query}".rstrip("?"), safe="")
        return RedirectResponse(f"{_airflow_root(request)}/api/v2/auth/login?next={next_url}", 307)
    return _render(request, "error.html", status, detail=detail)


def is_page(request: Request) -> bool:
    """Return whether a request is for an HTML page of the board."""
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    return path.startswith("/board") and not path.startswith("/board/files")


def _render(request: Request, name: str, status: int = 200, **content: Any) -> Response:
    airflow_root, now = _airflow_root(request), datetime.now(UTC)
    content = {"can_edit": False, **content}
    content |= {
        "root": request.scope.get("root_path", ""),
        "now": now,
        "run_url": lambda run_id: f"{airflow_root}/dags/{settings.DAG_ID}/runs/{quote(run_id, safe='')}",
        "dag_url": f"{airflow_root}/dags/{settings.DAG_ID}",
        "task_id": _task_id,
        "format_age": lambda moment: timeline.format_age(moment, now),
        "parse_report": _parse_report,
    }
    return templates.TemplateResponse(request, name, content, status, headers=HEADERS)


def _airflow_root(request: Request) -> str:
    """Return the path below which Airflow serves its own pages."""
    root: str = request.scope.get("root_path", "")
    return root.removesuffix("/event-hooks")


async def _read(request: Request, query: Callable[[Ledger], T]) -> T:
    intake = request.app.state.intake
    return await asyncio.to_thread(lambda: query(intake.ledger()))


def _count_events(ledger: Ledger, event_filter: EventFilter) -> dict[str, int]:
    """Return the number of events of each state that match the other filters."""
    return overview.count_events(ledger, replace(event_filter, state=None), STATES, MAX_COUNT + 1)


async def _load_hives(request: Request) -> list[tuple[HiveBacklog, BeekeeperStatus]]:
    beekeepers: BeekeeperStatusCache = request.app.state.beekeepers
    backlogs = await _read(request, overview.load_backlogs)
    statuses = await asyncio.gather(*(beekeepers.load(backlog.hive) for backlog in backlogs))
    return list(zip(backlogs, statuses, strict=True))


def _find_reported_at(reports: Iterable[StoredReport], process: ProcessView) -> datetime | None:
    """Return when the newest report of a process's end was sent."""
    expected = {"step": ReportStep.PROCESS_FINISHED.value, "processes": [process.process]}
    sent_times = [
        report.sent_at for report in reports if expected.items() <= _report_metadata(report.body).items()
    ]
    return sent_times[-1] if sent_times else None


def _report_metadata(body: Mapping[str, Any]) -> dict[str, Any]:
    return dict(body.get("params", {}).get(METADATA_KEY, {}))


def _parse_report(report: Mapping[str, Any] | str) -> dict[str, Any]:
    """
    Parse the message of a report, such as ``Event submitted: {…}``.

    :param report: its body, or the JSON text of it.
    :return: the fields after the colon, and ``title`` for the text before it; ``error`` if the text after the
        colon is not a JSON object.
    """
    body = json.loads(report) if isinstance(report, str) else report
    title, facts = parse_message(str(body.get("message", "")))
    return {**(facts if isinstance(facts, dict) else {"error": facts}), "title": title}


def _task_id(process: ProcessView) -> str:
    """Return the task that an operator reads the log of."""
    return f"{process.process}.{_task(process)}"


def _task(process: ProcessView) -> str:
    """Return the task that an operator clears: ``submit`` until the job is known."""
    return "submit" if process.job_id is None else "wait"
