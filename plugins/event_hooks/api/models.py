"""The API's responses, as OpenAPI documents them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from event_hooks.ledger.records import ProcessState
from event_hooks.ledger.views import EventState


class FieldError(BaseModel):
    """An invalid field of a body, or an invalid parameter."""

    detail: str = Field(description="What is expected.")
    pointer: str | None = Field(None, description="JSON pointer (RFC 6901) to the field in the body.")
    parameter: str | None = Field(None, description="Name of the parameter of the path, query or header.")


class Problem(BaseModel):
    """Reason why a request failed (RFC 9457)."""

    type: str = Field(description="Always about:blank: the status says which kind of problem it is.")
    title: str = Field(description="Name of the status.")
    status: int = Field(description="HTTP status.")
    detail: str = Field(description="Names the first invalid field and the expected value.")
    error: str = Field(description="The same as detail, for clients of the old event app.")
    errors: list[FieldError] = Field([], description="All invalid fields, at most 100.")


class ComponentHealth(BaseModel):
    """Health of one component that event hooks depends on."""

    status: Literal["healthy", "warning", "unhealthy", "unknown"]
    message: str | None = Field(None, description="Why it is not healthy, or why no beekeeper works.")
    alive: int | None = Field(None, description="Number of live processes of this component.")
    beekeeper: bool | None = Field(
        None, description="Whether the hive has a live beekeeper; null if the hive keeps no record of it."
    )


class HealthResponse(BaseModel):
    """Health of all components; the API server log has the details of each problem."""

    status: Literal["healthy", "warning", "unhealthy"] = Field(description="The worst of all components.")
    ledger: ComponentHealth
    rabbitmq: ComponentHealth = Field(description="Unhealthy also while it rejects reports.")
    schedulers: ComponentHealth
    dag_processors: ComponentHealth
    triggerers: ComponentHealth
    workers: ComponentHealth = Field(description="Unhealthy if tasks have been queued for a minute.")
    dags: ComponentHealth = Field(description="Unhealthy if process_event or maintain_ledger is paused.")
    runs: ComponentHealth = Field(description="Unhealthy if a run has ended before its events.")
    hives: dict[str, ComponentHealth] = Field(
        description="By connection id; unknown if the setting write_through is off."
    )


class TreeProgress(BaseModel):
    """Progress of a job tree."""

    complete: int = Field(description="Jobs that are done.")
    total: int = Field(description="Jobs known so far.")
    message: str | None = Field(None, description="Newest progress message of the pipeline.")


class JobResponse(BaseModel):
    """A job with its job tree."""

    id: int
    input: Any = Field(
        description="The input hash; a string if it cannot be parsed, or is truncated in a list."
    )
    status: Literal["complete", "failed", "submitted", "running", "incomplete"] = Field(
        description="incomplete: started, but no worker runs any of its jobs."
    )
    when_completed: str | None = Field(None, description="ISO 8601, in UTC.")
    output: Any = Field(
        None, description="Value of result.output, as the pipeline wrote it; truncated in a list."
    )
    progress: TreeProgress | None = None
    email: str | None = None


class ProcessJob(BaseModel):
    """The job of a process for a submitted event."""

    process: str
    job: int | None = Field(description="job.job_id; null while it is not known.")
    task: str = Field(description="Run and task that wait for the job.")
    hive: str
    analysis: str
    state: ProcessState
    message: str | None = Field(
        None, description="Reason why the job is not submitted yet, or why the process is skipped."
    )


class SubmitResponse(BaseModel):
    """An accepted event."""

    event: dict[str, Any]
    id: int = Field(description="Id of the event in the ledger.")
    run_id: str | None
    job_id: int | None = Field(description="Job of the first process, in the order of their names.")
    processes: list[ProcessJob]
    url: str = Field(description="Page of the event on the event board.")
    is_replayed: bool = Field(description="Whether an earlier request has submitted the event.")
    warnings: list[str] = Field(
        description="Why the event is not processed at once, such as a paused DAG; usually empty."
    )


class BatchItemResponse(SubmitResponse):
    """An accepted event of a batch."""

    status_code: int = Field(description="201 or 202, as for an event submitted on its own.")


class _LedgerModel(BaseModel):
    """Base of the models that are read from the attributes of the ledger's dataclasses."""

    model_config = ConfigDict(from_attributes=True)


class ProcessDetails(_LedgerModel):
    """A process of an event, as the ledger has it; no hive is queried."""

    process: str
    hive: str
    analysis: str
    job: int | None = Field(validation_alias="job_id", description="job.job_id; null while it is not known.")
    state: ProcessState = Field(
        description="unknown: the outcome of its job was not read; skipped: the process runs once per value,"
        " and has run for another event."
    )
    is_finished: bool
    done: int | None = Field(description="Finished jobs of its tree; null before the first poll.")
    total: int | None = Field(description="Jobs of its tree known so far.")
    failed: int | None = Field(description="Failed jobs of its tree.")
    message: str | None = Field(description="Newest progress message of the pipeline.")
    stalls: list[str] = Field(validation_alias="stall_texts", description="Jobs without progress, and why.")
    stop_requested_at: datetime | None = Field(description="null unless its jobs are being stopped.")
    error: str | None
    submitted_at: datetime | None
    started_at: datetime | None = Field(
        description="Time of the first poll that found a job of its tree running."
    )
    finished_at: datetime | None


class EventSummary(_LedgerModel):
    """An event, as the ledger has it, without its payload."""

    id: int = Field(description="Id of the event in the ledger.")
    type: str
    genome: str | None
    source: str = Field(description="Interface that received the event.")
    received_at: datetime
    run_id: str | None = Field(description="null until a run is started for the event.")
    state: EventState = Field(
        description="failed: one of its processes is; rejected: no process runs because of an error."
    )
    rejected_reason: str | None = Field(description="Why it is rejected; null otherwise.")
    is_finished: bool = Field(description="Whether all of its processes are finished.")
    processes: list[ProcessDetails]
    url: str = Field(description="Page of the event on the event board.")


class EventDetails(EventSummary):
    """An event with its payload."""

    event: dict[str, Any]


class PlannedProcess(BaseModel):
    """A process that would run for an event."""

    process: str
    hive: str
    analysis: str
    is_ready: bool | None = Field(
        description="Whether a job could be submitted now; null if the hive does not answer."
    )
    problem: str | None


class OtherProcess(BaseModel):
    """A process that would not run for an event."""

    process: str
    reason: str


class PlannedEvent(BaseModel):
    """The plan for one event."""

    event: dict[str, Any]
    perl: str = Field(
        description="The input of its jobs, as the Perl hash that a hive receives; run id and token are set"
        " when a job is submitted."
    )
    processes: list[PlannedProcess]
    others: list[OtherProcess] = Field(description="Processes that react to its type, and would not run.")


class PlanResponse(BaseModel):
    """The plan for a batch of events."""

    events: list[PlannedEvent]
    not_reacting: dict[str, list[OtherProcess]] = Field(
        description="For each type of these events, the processes that do not react to it."
    )


class JoinDetails(BaseModel):
    """The join of a process: it runs once per genome, after events of several types."""

    after: list[str] = Field(description="Types of the events.")
    within: float = Field(description="Timeout in seconds, from the first event.")
    then: Literal["run", "alert"] = Field(description="Action after the timeout.")


class PlanDifference(BaseModel):
    """A type of event and a process, with different plans under the present and the other lookups."""

    type: str
    process: str
    now: int = Field(
        description="Events for which it runs, or which count for its join, under the present lookups."
    )
    then: int = Field(description="The same under the other lookups.")
    place_now: str | None = Field(
        description="hive/analysis of its jobs under the present lookups; null if it does not react."
    )
    place_then: str | None = Field(description="The same under the other lookups.")
    is_moved: bool = Field(
        description="Whether hive or analysis change; also if only the database of a hive_uri changes."
    )
    join_now: JoinDetails | None = Field(
        description="The join under the present lookups; null if the process runs for single events."
    )
    join_then: JoinDetails | None = Field(description="The same under the other lookups.")
    event_ids: list[int] = Field(description="Examples of events with different plans, at most 5.")


class RejectedType(BaseModel):
    """A type of which the other lookups reject events."""

    type: str
    reason: str = Field(description="Of the first event.")
    now: int = Field(description="Number of these events that the present lookups reject as well.")
    then: int = Field(description="Number of events.")
    event_ids: list[int] = Field(description="Examples, at most 5.")


class PlanComparison(BaseModel):
    """The plans of the events of a period, under the present and under other lookups."""

    since: datetime
    until: datetime = Field(description="Events of this time and later are not read.")
    events: int = Field(description="Number of compared events.")
    excluded: int = Field(
        description="Number of other events: those of joins, and repetitions of only some processes."
    )
    unchanged: int = Field(description="Number of compared events with the same plan.")
    differences: list[PlanDifference]
    rejected: list[RejectedType]


class StopResponse(BaseModel):
    """Result of stopping a job tree."""

    id: int
    process: str
    stopped: list[int] = Field(description="Jobs of its tree that were stopped before they started.")
    running: list[int] = Field(description="Jobs of its tree that keep running.")


ERROR_DESCRIPTIONS = {
    400: "The body is not JSON",
    401: "Not logged in",
    403: "Permission denied",
    404: "Unknown event type, process, analysis or job",
    409: "Another event has this event_id or Idempotency-Key",
    408: "The body was sent too slowly",
    413: "The body is too long",
    415: "The Content-Type is not JSON",
    422: "A field is invalid",
    502: "The ledger or a hive answered with an error, which a retry meets again",
    503: "The ledger, a hive or the lookups are unavailable",
}


def describe_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the errors of a route for FastAPI; 401 and 403, which every route has, are added."""
    return {
        status: {"model": Problem, "description": ERROR_DESCRIPTIONS[status]}
        for status in (401, 403, *statuses)
    }
