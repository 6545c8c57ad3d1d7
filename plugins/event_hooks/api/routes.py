"""Routes that submit and plan events, and that show and stop jobs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Header, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from event_hooks.api import models
from event_hooks.api.compare_plans import compare_period, parse_request
from event_hooks.api.intake import AcceptedEvent, EventIntake, parse_events
from event_hooks.api.links import MAX_ID, build_board_url, build_event_url, link_next_page
from event_hooks.api.models import describe_errors
from event_hooks.api.plan import build_plan
from event_hooks.api.request_body import COMPARISON_BODY, EVENT_BODY, read_json
from event_hooks.api.security import MAY_EDIT, MAY_READ, MAY_TRIGGER, User
from event_hooks.events import lookups
from event_hooks.exceptions import HiveUnreachable, StopUnconfirmed
from event_hooks.hive.hook import HiveHook
from event_hooks.ledger.records import ProcessState
from event_hooks.masking import mask_secrets

if TYPE_CHECKING:
    from event_hooks.api.airflow_health import AirflowMonitor
    from event_hooks.events.lookups import Process
    from event_hooks.hive.sql.control import ControlResult
    from event_hooks.hive.sql.job_views import JobView

router = APIRouter(tags=["events"])

MAX_PAGE_SIZE = 1000

Submitted = models.SubmitResponse | list[models.BatchItemResponse]
JobId = Annotated[int, Path(ge=1, le=MAX_ID, description="job.job_id in the hive of the process.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Identifies a request of events without event_id: a repeated request with the same key"
        " returns the same ids.",
    ),
]


@router.post(
    "/jobs",
    status_code=201,
    dependencies=[MAY_TRIGGER],
    response_model=Submitted,
    openapi_extra=EVENT_BODY,
    responses={
        202: {"model": Submitted, "description": "Accepted; some job ids are not known yet"},
        **describe_errors(400, 404, 408, 409, 413, 415, 422, 502, 503),
    },
)
async def submit_events(request: Request, user: User, idempotency_key: IdempotencyKey = None) -> Response:
    """
    Submit an event, or an array of events, to the hives of their processes.

    The events are committed to the ledger before a response of 201 or 202: no accepted event is lost. A
    repeated request has the same response, with the header `Idempotency-Replayed: true`.
    """
    body = await read_json(request)
    intake: EventIntake = request.app.state.intake
    airflow: AirflowMonitor = request.app.state.airflow
    airflow.refresh()
    accepted = await intake.accept(parse_events(body), user.get_name(), idempotency_key)
    warnings = await airflow.load_warnings()
    responses = [{**_submit_response(request, item), "warnings": warnings} for item in accepted]
    headers = {} if any(item.event.is_new for item in accepted) else {"Idempotency-Replayed": "true"}
    statuses = [item.status_code for item in accepted]
    if not isinstance(body, list):
        headers["Location"] = build_event_url(request, accepted[0].event.id)
        return JSONResponse(responses[0], statuses[0], headers)
    items = [
        {**response, "status_code": status} for response, status in zip(responses, statuses, strict=True)
    ]
    return JSONResponse(items, max(statuses), headers)


@router.post(
    "/plan",
    dependencies=[MAY_READ],
    response_model=models.PlanResponse,
    openapi_extra=EVENT_BODY,
    responses=describe_errors(400, 404, 408, 413, 415, 422, 502, 503),
)
async def plan_events(request: Request, user: User, idempotency_key: IdempotencyKey = None) -> Response:
    """
    Plan events without submitting them.

    Returns the processes that would run, and the reasons why the others would not. Nothing is written.
    """
    batch, intake = parse_events(await read_json(request)), request.app.state.intake
    return JSONResponse(await build_plan(batch, intake, user.get_name(), idempotency_key))


@router.post(
    "/plan/compare",
    dependencies=[MAY_READ],
    response_model=models.PlanComparison,
    openapi_extra=COMPARISON_BODY,
    responses=describe_errors(400, 408, 413, 415, 422, 502, 503),
)
async def compare_plans(request: Request) -> Response:
    """
    Plan the events of a period again with other lookups.

    Returns the differences to their plans under the present lookups. Nothing is written.
    """
    comparison = parse_request(await read_json(request))
    state = request.app.state
    return JSONResponse(await compare_period(comparison, state.intake.ledger, state.comparison_lock))


@router.get("/processes", dependencies=[MAY_READ], responses=describe_errors(502, 503))
async def list_processes() -> list[str]:
    """List the processes."""
    return sorted(lookups.load_cached().processes)


@router.get(
    "/jobs/{process}",
    dependencies=[MAY_READ],
    response_model=list[models.JobResponse],
    response_model_exclude_unset=True,
    responses=describe_errors(404, 422, 502, 503),
)
async def list_jobs(
    process: str,
    request: Request,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE, description="Jobs per page.")] = MAX_PAGE_SIZE,
    before: Annotated[int | None, Query(ge=1, le=MAX_ID, description="Only jobs with a lower id.")] = None,
) -> list[dict[str, Any]]:
    """
    List the jobs of a process, newest first; the header `Link` has the URL of the next page.

    Inputs and outputs of more than 2,000 characters are truncated, and texts.
    """
    found = _find_process(process)
    query = partial(HiveHook.list_jobs, analysis=found.analysis, before=before, limit=limit + 1)
    jobs = await request.app.state.intake.hives.run(found.hive_conn_id, query)
    if len(jobs) > limit:
        link_next_page(request, response, limit=limit, before=jobs[limit - 1].job_id)
    return [_job_response(job) for job in jobs[:limit]]


@router.get(
    "/jobs/{process}/{job_id}",
    dependencies=[MAY_READ],
    response_model=models.JobResponse | dict[str, str],
    response_model_exclude_unset=True,
    responses=describe_errors(404, 422, 502, 503),
)
async def show_job(
    process: str,
    job_id: JobId,
    request: Request,
    output_format: Annotated[Literal["email", "failures"] | None, Query(alias="format")] = None,
    email: Annotated[
        str | None, Query(max_length=1000, description="Copied to the response with format=email.")
    ] = None,
) -> dict[str, Any]:
    """Show a job with its job tree; `format=failures` returns only `{id of a failed job: message}`."""
    job = await _load_job(request, process, job_id)
    if output_format == "failures":
        return {str(failed_id): message for failed_id, message in job.failures.items()}
    return {**_job_response(job), "email": email} if output_format else _job_response(job)


@router.delete(
    "/jobs/{process}/{job_id}",
    dependencies=[MAY_EDIT],
    response_model=models.StopResponse,
    responses={
        204: {"description": "The same, for a client that does not accept JSON"},
        **describe_errors(404, 422, 502, 503),
    },
)
async def stop_job(process: str, job_id: JobId, request: Request) -> Any:
    """
    Stop the jobs of a job tree that have not started. Running jobs keep running, and no job is deleted.

    The status is 204 unless the header `Accept` names JSON: the client of the old event app expects it.

    After a response of 503, the stop may still happen: GET the job to check its status.
    """
    await _load_job(request, process, job_id)
    stop = partial(HiveHook.stop_jobs, jobs={job_id: None})
    hive = _find_process(process).hive_conn_id
    try:
        result: ControlResult = await request.app.state.intake.hives.run(hive, stop)
    except HiveUnreachable as error:
        raise StopUnconfirmed(hive, process, job_id, error.reason) from error
    if "json" not in request.headers.get("Accept", ""):
        return Response(status_code=204)
    return {"id": job_id, "process": process, "stopped": result.changed_ids, "running": result.running_ids}


async def _load_job(request: Request, process: str, job_id: int) -> JobView:
    found = _find_process(process)
    query = partial(HiveHook.list_jobs, analysis=found.analysis, job_id=job_id)
    jobs: Sequence[JobView] = await request.app.state.intake.hives.run(found.hive_conn_id, query)
    if not jobs:
        raise HTTPException(404, f"job {job_id}: process {process} has no such job")
    return jobs[0]


def _find_process(name: str) -> Process:
    known = lookups.load_cached().processes
    if name not in known:
        raise HTTPException(404, f"process: expected one of {', '.join(sorted(known))}, not {name[:100]!r}")
    return known[name]


def _submit_response(request: Request, accepted: AcceptedEvent) -> dict[str, Any]:
    stored, jobs = accepted.event, []
    for status in accepted.processes:
        job = {
            "process": status.process,
            "job": status.job_id,
            "task": f"{stored.run_id}/{status.process}.wait",
            "hive": status.hive,
            "analysis": status.analysis,
            "state": status.state,
        }
        skip_reason = status.error if status.state == ProcessState.SKIPPED else None
        if message := accepted.problems.get(status.process) or skip_reason:
            job["message"] = message
        jobs.append(job)
    return {
        "event": mask_secrets(stored.payload),
        "id": stored.id,
        "run_id": stored.run_id,
        "job_id": jobs[0]["job"] if jobs else None,
        "processes": jobs,
        "url": build_board_url(request, stored.id),
        "is_replayed": not stored.is_new,
    }


def _job_response(job: JobView) -> dict[str, Any]:
    """Return the JSON of a job, with the keys of the old event app."""
    response: dict[str, Any] = {"id": job.job_id, "input": job.input, "status": job.status}
    if job.status in ("complete", "failed"):
        response["when_completed"] = job.when_completed.isoformat() if job.when_completed else None
        response["output"] = job.output
    response["progress"] = {"complete": job.done, "total": job.total}
    if job.message is not None:
        response["progress"]["message"] = job.message
    return response
