"""The event app's interface: what it promised to its callers, with and without a slash at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from event_hooks.api import models
from event_hooks.api.intake import AcceptedEvent, EventIntake, checked
from event_hooks.api.plan import build_plan
from event_hooks.api.request_body import EVENT_BODY, read_json
from event_hooks.api.security import MAY_EDIT, MAY_READ, MAY_TRIGGER, User
from event_hooks.events import lookups
from event_hooks.hive.hook import HiveHook
from event_hooks.ledger import overview
from event_hooks.ledger.records import State

if TYPE_CHECKING:
    from event_hooks.events.lookups import Process
    from event_hooks.hive.sql.control import Change
    from event_hooks.hive.sql.job_views import JobView

router = APIRouter(tags=["events"])

MAX_ID = 2**63 - 1

JobId = Annotated[int, Path(ge=1, le=MAX_ID, description="job.job_id in the hive of the process.")]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Names a request whose events have no event_id: the same again is answered as the first.",
    ),
]


@router.post(
    "/jobs",
    status_code=201,
    dependencies=[MAY_TRIGGER],
    response_model=models.Submitted | list[models.SubmittedOfBatch],
    openapi_extra=EVENT_BODY,
    responses=models.answers(
        {200: "Known: the same ids", 202: "Accepted; some job ids are not known yet"},
        400,
        404,
        409,
        413,
        415,
        422,
        503,
    ),
)
async def submit(request: Request, user: User, key: Key = None) -> Response:
    """
    Take in an event, or an array of them, and put the jobs into their hives.

    Once this is answered with 201, 200 or 202, nothing of it is lost.
    """
    body = await read_json(request)
    intake: EventIntake = request.app.state.intake
    taken = await intake.take(checked(body), user.get_name(), key)
    root = request.scope.get("root_path", "")
    answers = [_submitted(one, root) for one in taken]
    if not isinstance(body, list):
        return JSONResponse(answers[0], _status(taken[0]))
    statuses = [_status(one) for one in taken]
    answers = [{**answer, "status_code": status} for answer, status in zip(answers, statuses, strict=True)]
    together = 202 if 202 in statuses else 201 if 201 in statuses else 200
    return JSONResponse(answers, together)


@router.post(
    "/plan",
    dependencies=[MAY_READ],
    response_model=models.Plan,
    openapi_extra=EVENT_BODY,
    responses=models.answers({}, 400, 404, 413, 415, 422, 503),
)
async def plan(request: Request, key: Key = None) -> Response:
    """Tell what these events would do, and why they would not do the rest; nothing is written."""
    batch = checked(await read_json(request))
    return JSONResponse({"events": await build_plan(batch, request.app.state.intake, key)})


@router.get("/events", dependencies=[MAY_READ], responses=models.answers({}, 503))
async def events() -> list[str]:
    """List the types of events."""
    return lookups.load_cached().types


@router.get(
    "/events/{event_id}",
    dependencies=[MAY_READ],
    response_model=models.EventState,
    responses=models.answers({}, 404, 422, 503),
)
async def event(
    event_id: Annotated[int, Path(ge=1, le=MAX_ID, description="Of the event in the ledger.")],
    request: Request,
) -> dict[str, Any]:
    """Tell what has become of an event; costs no question to a hive."""
    ledger = await asyncio.to_thread(request.app.state.intake.ledger)
    found = await asyncio.to_thread(overview.one, ledger, event_id)
    if found is None:
        raise HTTPException(404, f"event {event_id}: the ledger has no such event")
    view, payload = found
    processes = [{**vars(one), "job": one.job_id, "is_finished": one.is_finished} for one in view.processes]
    url = f"{request.scope.get('root_path', '')}/board/events/{event_id}"
    told = {"event": payload, "state": view.state, "is_finished": view.is_finished, "url": url}
    return {**vars(view), **told, "processes": processes}


@router.get("/processes", dependencies=[MAY_READ], responses=models.answers({}, 503))
async def processes() -> list[str]:
    """List the processes."""
    return sorted(lookups.load_cached().processes)


@router.get(
    "/jobs/{process}",
    dependencies=[MAY_READ],
    response_model=list[models.Job],
    response_model_exclude_unset=True,
    responses=models.answers({}, 404, 422, 503),
)
async def list_jobs(
    process: str,
    request: Request,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=1000, description="Jobs on a page.")] = 100,
    before: Annotated[int | None, Query(ge=1, le=MAX_ID, description="Only jobs with a lower id.")] = None,
) -> list[dict[str, Any]]:
    """List the jobs of a process, the newest first; the header ``Link`` names the next page."""
    found = _process(process)
    question = partial(HiveHook.view, analysis=found.analysis, before=before, limit=limit + 1)
    jobs = await request.app.state.intake.hives.ask(found.hive_conn_id, question)
    if len(jobs) > limit:
        following = request.url.include_query_params(limit=limit, before=jobs[limit - 1].job_id)
        response.headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
    return [_job(one) for one in jobs[:limit]]


@router.get(
    "/jobs/{process}/{job_id}",
    dependencies=[MAY_READ],
    response_model=models.Job | dict[str, str],
    response_model_exclude_unset=True,
    responses=models.answers({}, 400, 404, 422, 503),
)
async def retrieve(
    process: str,
    job_id: JobId,
    request: Request,
    wanted: Annotated[str | None, Query(alias="format", description="email or failures")] = None,
    email: Annotated[str | None, Query(description="Given back with format=email.")] = None,
) -> dict[str, Any]:
    """Show a job, with what has grown from it; with ``format=failures`` only ``{job id: message}``."""
    if wanted not in (None, "email", "failures"):
        raise HTTPException(400, f"format: expected email or failures, not {wanted[:100]!r}")
    if wanted == "email" and not email:
        raise HTTPException(400, "email: expected an address beside format=email")
    job = await _asked(request, process, job_id)
    if wanted == "failures":
        return {str(failed): message for failed, message in job.failures.items()}
    return {**_job(job), "email": email} if wanted else _job(job)


@router.delete(
    "/jobs/{process}/{job_id}",
    dependencies=[MAY_EDIT],
    response_model=models.Stopped,
    responses=models.answers({}, 404, 422, 503),
)
async def delete(process: str, job_id: JobId, request: Request) -> dict[str, Any]:
    """Stop what has not begun of a job and its tree. Nothing is deleted, and what runs, runs on."""
    await _asked(request, process, job_id)
    stop = partial(HiveHook.stop, job_ids=[job_id])
    change: Change = await request.app.state.intake.hives.ask(_process(process).hive_conn_id, stop)
    return {"id": job_id, "process": process, "stopped": change.jobs, "running": change.running}


async def _asked(request: Request, process: str, job_id: int) -> JobView:
    found = _process(process)
    question = partial(HiveHook.view, analysis=found.analysis, job_id=job_id)
    jobs: Sequence[JobView] = await request.app.state.intake.hives.ask(found.hive_conn_id, question)
    if not jobs:
        raise HTTPException(404, f"job {job_id}: process {process} has no such job")
    return jobs[0]


def _process(name: str) -> Process:
    processes = lookups.load_cached().processes
    if name not in processes:
        raise HTTPException(
            404, f"process: expected one of {', '.join(sorted(processes))}, not {name[:100]!r}"
        )
    return processes[name]


def _status(taken: AcceptedEvent) -> int:
    if any(one.job_id is None and one.state == State.PLANNED for one in taken.processes):
        return 202
    if not (taken.processes or taken.entry.is_new or taken.entry.is_planned):
        return 202  # another run has it, and is about to plan it
    return 201 if taken.entry.is_new else 200


def _submitted(taken: AcceptedEvent, root: str) -> dict[str, Any]:
    processes = [
        {
            "process": one.process,
            "job": one.job_id,
            "task": f"{taken.entry.run_id}/{one.process}.wait",
            "hive": one.hive,
            "analysis": one.analysis,
            "state": one.state,
            **({"message": message} if message else {}),
        }
        for one in taken.processes
        for message in [
            taken.problems.get(one.process) or (one.error if one.state == State.SKIPPED else None)
        ]
    ]
    return {
        "event": taken.entry.payload,
        "id": taken.entry.id,
        "run_id": taken.entry.run_id,
        "job_id": next((one["job"] for one in processes), None),
        "processes": processes,
        "url": f"{root}/board/events/{taken.entry.id}",
    }


def _job(job: JobView) -> dict[str, Any]:
    """Give a job as the event app did."""
    told: dict[str, Any] = {"id": job.job_id, "input": job.input, "status": job.status}
    if job.status in ("complete", "failed"):
        told["when_completed"] = job.when_completed.isoformat() if job.when_completed else None
        told["output"] = job.output
    told["progress"] = {"complete": job.done, "total": job.total}
    if job.message is not None:
        told["progress"]["message"] = job.message
    return told
