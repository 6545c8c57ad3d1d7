"""
The results of the client, with the names that ``/event-hooks/apidocs`` gives to them.

They are plain dictionaries. Times are texts in ISO 8601.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

JsonObject = dict[str, Any]


class ProcessJob(TypedDict):
    """The job of a process for a submitted event; ``job`` is None while it is not known."""

    process: str
    job: int | None
    task: str
    hive: str
    analysis: str
    state: str
    message: NotRequired[str | None]


class SubmitResponse(TypedDict):
    """An accepted event; ``job_id`` is the job of the first process."""

    event: JsonObject
    id: int
    run_id: str | None
    job_id: int | None
    processes: list[ProcessJob]
    url: str
    is_replayed: bool
    warnings: NotRequired[list[str]]


class BatchItemResponse(SubmitResponse):
    """An accepted event of a batch; the status is that of an event submitted on its own."""

    status_code: int


class ProcessDetails(TypedDict):
    """
    A process of an event.

    ``state`` is planned, submitted, complete, failed, stopped, missing, timed_out, not_submitted, unknown or
    skipped. ``done``, ``total`` and ``failed`` count the jobs of its tree.
    """

    process: str
    hive: str
    analysis: str
    job: int | None
    state: str
    is_finished: bool
    done: int | None
    total: int | None
    failed: int | None
    message: str | None
    stalls: list[str]
    stop_requested_at: str | None
    error: str | None
    submitted_at: str | None
    started_at: str | None
    finished_at: str | None


class EventSummary(TypedDict):
    """An event without its payload; ``state`` is waiting, running, complete, failed or rejected."""

    id: int
    type: str
    genome: str | None
    source: str
    received_at: str
    run_id: str | None
    state: str
    rejected_reason: str | None
    is_finished: bool
    processes: list[ProcessDetails]
    url: str


class EventDetails(EventSummary):
    """An event with its payload."""

    event: JsonObject


class PlannedProcess(TypedDict):
    """A process that would run; ``is_ready`` is None if its hive does not answer."""

    process: str
    hive: str
    analysis: str
    is_ready: bool | None
    problem: str | None


class OtherProcess(TypedDict):
    """A process that would not run."""

    process: str
    reason: str


class PlannedEvent(TypedDict):
    """The plan for one event."""

    event: JsonObject
    perl: str
    processes: list[PlannedProcess]
    others: list[OtherProcess]


class PlanResponse(TypedDict):
    """The plan for a batch of events."""

    events: list[PlannedEvent]
    not_reacting: dict[str, list[OtherProcess]]


class JoinDetails(TypedDict):
    """The join of a process; ``within`` is in seconds, and ``then`` is run or alert."""

    after: list[str]
    within: float
    then: str


class PlanDifference(TypedDict):
    """
    A type of event and a process, with different plans under the present and the other lookups.

    ``now`` and ``then`` count the events for which the process runs, or which count for its join. A place is
    hive/analysis. ``event_ids`` are at most 5 examples.
    """

    type: str
    process: str
    now: int
    then: int
    place_now: str | None
    place_then: str | None
    is_moved: bool
    join_now: JoinDetails | None
    join_then: JoinDetails | None
    event_ids: list[int]


class RejectedType(TypedDict):
    """A type of which the other lookups reject ``then`` events; the present ones reject ``now`` of these."""

    type: str
    reason: str
    now: int
    then: int
    event_ids: list[int]


class PlanComparison(TypedDict):
    """
    The plans of the events of a period, under the present and under other lookups.

    ``events`` were compared, ``excluded`` are events of joins and repetitions of only some processes.
    """

    since: str
    until: str
    events: int
    excluded: int
    unchanged: int
    differences: list[PlanDifference]
    rejected: list[RejectedType]


class TreeProgress(TypedDict):
    """Progress of a job tree; ``message`` is the newest one of the pipeline."""

    complete: int
    total: int
    message: NotRequired[str | None]


class JobResponse(TypedDict):
    """A job with its job tree; ``status`` is complete, failed, submitted, running or incomplete."""

    id: int
    input: Any
    status: str
    when_completed: NotRequired[str | None]
    output: NotRequired[Any]
    progress: TreeProgress
    email: NotRequired[str | None]


class ActionItem(TypedDict):
    """A process that a retry or a stop selects; with the mode event, an event, and ``process`` is None."""

    event: int
    type: str
    genome: str | None
    process: str | None
    state: str
    is_applied: bool
    reason: str | None
    new_event: int | None


class ActionResponse(TypedDict):
    """The result of a retry or a stop, or of a dry run."""

    events: int
    applied: int
    is_dry_run: bool
    items: list[ActionItem]
    problems: list[str]


class StopResponse(TypedDict):
    """The jobs of a tree that were stopped before they started, and those that keep running."""

    id: int
    process: str
    stopped: list[int]
    running: list[int]
