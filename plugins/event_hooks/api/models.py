"""What the API answers, as OpenAPI describes it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """Why a request was not done."""

    error: str = Field(description="Names the field and what was expected.", examples=["type: expected …"])


class Part(BaseModel):
    """Something that event hooks stands on."""

    status: str = Field(description="healthy, unhealthy or unknown.")
    message: str | None = Field(None, description="Why it is not healthy.")
    alive: int | None = Field(None, description="Triggerers that live.")
    beekeeper: bool | None = Field(None, description="Whether the hive knows a live one; null if not known.")


class Health(BaseModel):
    """Whether all of it answers; the API server's log says why not."""

    status: str = Field(description="healthy if all parts are.")
    ledger: Part
    rabbitmq: Part
    triggerers: Part
    hives: dict[str, Part] = Field(description="By connection; unknown if write_through is off.")


class Progress(BaseModel):
    """How far the tree of a job is."""

    complete: int = Field(description="Jobs that are done.")
    total: int = Field(description="Jobs known so far.")
    message: str | None = Field(None, description="What the pipeline said last.")


class Job(BaseModel):
    """A job with what has grown from it."""

    id: int
    input: Any = Field(description="The input hash; text if it cannot be read.")
    status: str = Field(description="complete, failed, submitted, running or incomplete.")
    when_completed: str | None = Field(None, description="ISO 8601, in the hive's time zone.")
    output: Any = Field(None, description="What the pipeline wrote into result.output.")
    progress: Progress | None = None
    email: str | None = None


class ProcessJob(BaseModel):
    """The job that a process has for an event."""

    process: str
    job: int | None = Field(description="job.job_id; null while it is not known.")
    task: str = Field(description="Run and task that wait for it.")
    hive: str
    analysis: str
    state: str
    message: str | None = Field(None, description="Why there is no job yet, or will be none.")


class Submitted(BaseModel):
    """An event that was taken in."""

    event: dict[str, Any]
    id: int = Field(description="Of the event in the ledger.")
    run_id: str | None
    job_id: int | None = Field(description="The job of the first process, by their names.")
    processes: list[ProcessJob]
    url: str = Field(description="Its page on the event board.")


class SubmittedOfBatch(Submitted):
    """One of several events."""

    status_code: int = Field(description="201, 200 or 202, as if it had come alone.")


class ProcessState(BaseModel):
    """How far a process is with an event, as the ledger has it: no hive is asked."""

    process: str
    hive: str
    analysis: str
    job: int | None = Field(description="job.job_id; null while it is not known.")
    state: str = Field(
        description="planned, submitted, complete, failed, stopped, missing, timed_out, not_submitted,"
        " unknown or skipped (another event has what is done once)."
    )
    is_finished: bool
    done: int | None = Field(description="Jobs of its tree that are over; null before the first look.")
    total: int | None = Field(description="Jobs of its tree known so far.")
    failed: int | None = Field(description="Jobs of its tree that have failed.")
    message: str | None = Field(description="What the pipeline said last.")
    error: str | None
    submitted_at: datetime | None
    started_at: datetime | None = Field(description="When a job of its tree was first seen at work.")
    finished_at: datetime | None


class EventState(BaseModel):
    """An event, and what has become of it."""

    id: int = Field(description="Of the event in the ledger.")
    event: dict[str, Any]
    type: str
    genome: str | None
    source: str = Field(description="How it came in.")
    received_at: datetime
    run_id: str | None = Field(description="null until a run is started for it.")
    state: str = Field(
        description="waiting, running, complete or failed; one failed process makes it failed."
    )
    is_finished: bool = Field(description="Whether all of its processes are.")
    processes: list[ProcessState]
    url: str = Field(description="Its page on the event board.")


class PlannedProcess(BaseModel):
    """What a process would do for an event."""

    process: str
    hive: str
    analysis: str
    is_ready: bool | None = Field(description="Whether a job could be submitted; null if the hive is silent.")
    problem: str | None
    input: dict[str, Any] = Field(description="The job's input; run and token are made when it is submitted.")
    perl: str = Field(description="The same as the hive gets it.")


class Unconcerned(BaseModel):
    """A process that would do nothing."""

    process: str
    reason: str


class PlannedEvent(BaseModel):
    """What an event would do."""

    event: dict[str, Any]
    processes: list[PlannedProcess]
    others: list[Unconcerned]


class Plan(BaseModel):
    """What events would do."""

    events: list[PlannedEvent]


class Stopped(BaseModel):
    """What was done to a job."""

    id: int
    process: str
    stopped: list[int] = Field(description="Jobs of its tree that had not begun, and will not.")
    running: list[int] = Field(description="Jobs of its tree that run on.")


_PROBLEMS = {
    400: "Not JSON, or a query that makes no sense",
    401: "Not logged in",
    403: "Logged in, and not allowed to",
    404: "No such type, process, analysis or job",
    409: "Another event came under this event_id or Idempotency-Key",
    413: "The body is too long",
    415: "The body is not called JSON",
    422: "A field is not as expected",
    503: "Ledger, hive or lookups cannot be used now",
}


def answers(others: dict[int, str], *problems: int) -> dict[int | str, dict[str, Any]]:
    """Give the answers of a route beside its usual one; 401 and 403 are among those of every route."""
    fine: dict[int | str, dict[str, Any]] = {status: {"description": text} for status, text in others.items()}
    bad = {status: {"model": Problem, "description": _PROBLEMS[status]} for status in (401, 403, *problems)}
    return fine | bad
