"""The pages, and the files that they need."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.templating import Jinja2Templates

from event_hooks import settings
from event_hooks.api.board import timeline
from event_hooks.api.security import MAY_READ
from event_hooks.events import lookups
from event_hooks.ledger import joins, overview
from event_hooks.ledger.follow_ups import list_follow_ups
from event_hooks.ledger.overview import ProcessView, Wanted
from event_hooks.process_event import planning
from event_hooks.reports.builder import RETRY_ADVICE, Step
from event_hooks.reports.report import METADATA_KEY

if TYPE_CHECKING:
    from event_hooks.api.board.beekeeper_status import BeekeeperStatusCache, Word

router = APIRouter(include_in_schema=False, dependencies=[MAY_READ])

T = TypeVar("T")

HERE = FilePath(__file__).parent
FILES = ("board.css", "board.js")
PAGE = 50
"""Events on a page."""

RECENT = timedelta(days=7)
"""Time for which a failed event needs attention."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' data:; form-action 'self'; frame-ancestors 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}

templates = Jinja2Templates(HERE / "templates")
templates.env.globals |= {"bar": timeline.bar, "count": timeline.count, "word": timeline.word}


@router.get("/board")
async def board(
    request: Request,
    state: Literal["open", "failed", "complete", ""] = "",
    event_type: Annotated[str, Query(alias="type", max_length=255)] = "",
    genome: Annotated[str, Query(max_length=255)] = "",
    run: Annotated[str, Query(max_length=250)] = "",
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
) -> Response:
    """Show the latest events, what needs attention first, and what each hive has to do."""
    wanted = Wanted(state or None, event_type or None, genome.strip() or None, run or None)
    is_plain = wanted == Wanted() and before is None
    found = await _read(request, lambda ledger: overview.events(ledger, wanted, before, PAGE + 1))
    attention = await _read(request, lambda ledger: overview.attention(ledger, RECENT)) if is_plain else []
    urgent = {one.id for one in attention}
    return _page(
        request,
        "board.html",
        wanted=wanted,
        before=before,
        is_plain=is_plain,
        types=lookups.load_cached().types,
        attention=attention,
        events=[one for one in found[:PAGE] if one.id not in urgent],
        older=found[PAGE - 1].id if len(found) > PAGE else None,
        hives=await _hives(request) if is_plain else [],
        most=PAGE,
        awaited=await _read(request, lambda ledger: joins.waiting(ledger, wanted.genome, PAGE))
        if is_plain or wanted == Wanted(genome=wanted.genome)
        else [],
    )


@router.get("/board/events/{event_id}")
async def event(event_id: Annotated[int, Path(ge=1, le=2**63 - 1)], request: Request) -> Response:
    """Show one event: its timeline, its processes, its reports."""
    found = await _read(request, lambda ledger: overview.one(ledger, event_id))
    if found is None:
        raise HTTPException(404, f"event {event_id}: the ledger has no such event")
    view, payload = found
    told = await _read(request, lambda ledger: overview.reports(ledger, event_id))
    chain = await _read(request, lambda ledger: overview.chain(ledger, event_id))
    awaited = await _read(request, lambda ledger: joins.waiting_for(ledger, [event_id]))
    follow_ups = await _read(request, lambda ledger: list_follow_ups(ledger, event_id))
    now = datetime.now(UTC)
    known = lookups.load_cached().processes
    return _page(
        request,
        "event.html",
        event=view,
        payload=json.dumps(payload, indent=2, ensure_ascii=False),
        lanes=[timeline.lane(view, one, _reported_at(told, one), now) for one in view.processes],
        told=told,
        chain=chain if len(chain) > 1 else [],
        awaited=[one for _, one in awaited],
        owed=[one for one in follow_ups if one.sent_at is None],
        guihive={one.process: known[one.process].guihive for one in view.processes if one.process in known},
        mend=lambda one: RETRY_ADVICE.format(task=_task(one)),
    )


@router.get("/board/files/{name}")
async def file(name: str) -> FileResponse:
    """Give what a page needs."""
    if name not in FILES:
        raise HTTPException(404, "no such file")
    return FileResponse(HERE / "files" / name, headers={"Cache-Control": "no-cache"})


def problem(request: Request, status: int, detail: str) -> Response:
    """Show what went wrong as a page; who is not logged in is led to Airflow's login, and back."""
    if status == 401:
        back = quote(f"{request.url.path}?{request.url.query}".rstrip("?"), safe="")
        return RedirectResponse(f"{_airflow(request)}/api/v2/auth/login?next={back}", 307)
    return _page(request, "problem.html", status, detail=detail)


def is_page(request: Request) -> bool:
    """Tell whether a person looks at what is asked for, and not a program."""
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    return path.startswith("/board") and not path.startswith("/board/files")


def _page(request: Request, name: str, status: int = 200, **content: Any) -> Response:
    airflow, now = _airflow(request), datetime.now(UTC)
    content |= {
        "root": request.scope.get("root_path", ""),
        "now": now,
        "run_page": lambda run_id: f"{airflow}/dags/{settings.DAG_ID}/runs/{quote(run_id, safe='')}",
        "task": _task,
        "age": lambda at: timeline.age(at, now),
        "facts": _facts,
    }
    return templates.TemplateResponse(request, name, content, status, headers=HEADERS)


def _airflow(request: Request) -> str:
    """Give the path below which Airflow's own pages are."""
    root: str = request.scope.get("root_path", "")
    return root.removesuffix("/event-hooks")


async def _read(request: Request, question: Callable[[Any], T]) -> T:
    intake = request.app.state.intake
    return await asyncio.to_thread(lambda: question(intake.ledger()))


async def _hives(request: Request) -> list[tuple[overview.Backlog, Word]]:
    keepers: BeekeeperStatusCache = request.app.state.beekeepers
    backlogs = await _read(request, overview.backlogs)
    words = await asyncio.gather(*(keepers.look(one.hive) for one in backlogs))
    return list(zip(backlogs, words, strict=True))


def _reported_at(told: list[overview.ToldReport], view: ProcessView) -> datetime | None:
    """Give when the end of a process was told last."""
    about = {"step": Step.PROCESS_FINISHED.value, "processes": [view.process]}
    ends = [one for one in told if about.items() <= _about(one.body).items()]
    return ends[-1].sent_at if ends else None


def _about(body: Mapping[str, Any]) -> dict[str, Any]:
    return dict(body.get("params", {}).get(METADATA_KEY, {}))


def _facts(report: Mapping[str, Any] | str) -> dict[str, Any]:
    """
    Take a report apart.

    :return: what its message says, with ``told`` for the words before, and ``step``.
    """
    body = json.loads(report) if isinstance(report, str) else report
    words, _, rest = str(body.get("message", "")).partition(": ")
    try:
        facts = json.loads(rest)
    except ValueError:
        facts = {"error": rest} if rest else {}
    if not isinstance(facts, dict):
        facts = {"error": rest}
    return {**facts, "told": words, "step": _about(body).get("step", "")}


def _task(view: ProcessView) -> str:
    return planning.submit_task(view.process) if view.job_id is None else f"{view.process}.wait"
