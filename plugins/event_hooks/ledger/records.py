"""Records that the ledger stores and returns, and the keys of events."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any
from uuid import uuid4

from event_hooks.events.models import Event, event_reference

MAX_RUN_BYTES = 8 * 2**20
"""Bytes of the payloads of one run: its tasks load all of them. A single event may be longer."""


class ProcessState(StrEnum):
    """State of a process of an event."""

    PLANNED = "planned"
    SUBMITTED = "submitted"
    COMPLETE = "complete"
    FAILED = "failed"
    STOPPED = "stopped"
    MISSING = "missing"
    TIMED_OUT = "timed_out"
    NOT_SUBMITTED = "not_submitted"
    UNKNOWN = "unknown"  # the outcome of the job was not read
    SKIPPED = "skipped"  # the process runs, or has run, for another event with the same values


class RetryMarker(StrEnum):
    """``attempt`` of a process that a user retries, until a task instance starts to wait for its job."""

    REQUESTED = "retry_requested"  # Airflow has not cleared its tasks yet
    CLEARED = "retry_cleared"


UNFINISHED_STATES = (ProcessState.PLANNED, ProcessState.SUBMITTED)

SUCCESS_STATES = (ProcessState.COMPLETE, ProcessState.SKIPPED)

FAILURE_STATES = tuple(state for state in ProcessState if state not in (*UNFINISHED_STATES, *SUCCESS_STATES))


@dataclass(frozen=True)
class NewEvent:
    """An event to store."""

    key: str
    """From :func:`event_key`, :func:`run_event_key` or :func:`idempotency_event_key`."""

    type: str
    genome: str | None
    payload: Mapping[str, Any]
    source: str
    counts_for_joins: bool = True
    """False for a repetition of an event: the joins have counted the original."""

    correlation_id: str | None = None
    """The chain that event hooks assigns to a repetition; ``None`` if its field ``follows`` decides."""

    @cached_property
    def payload_text(self) -> str:
        """The payload as JSON; ASCII, so that its length is its number of bytes."""
        return json.dumps(self.payload)


@dataclass(frozen=True)
class StoredEvent:
    """An event of the ledger."""

    id: int
    payload: dict[str, Any]
    run_id: str | None
    """None until a run is assigned."""

    position: int
    """Position in the run, from 0; until a run is assigned, position in the call that stored the event."""

    is_new: bool = False
    """Whether the call that returned this record has stored the event."""

    is_planned: bool = field(default=False, compare=False)
    """Whether the processes of the event are stored."""

    rejected_reason: str | None = field(default=None, compare=False)
    """Why no process runs for the event; ``None`` unless it is rejected."""

    counts_for_joins: bool = True
    """As in :class:`NewEvent`."""

    correlation_id: str | None = None
    """The first event of its chain; ``None`` if it is the first itself."""


@dataclass(frozen=True)
class RunEvents:
    """Events of one run, parsed, with their ids. A task or trigger loads them once and passes them on."""

    run_id: str
    events: Mapping[int, Event]
    """``{position in the run: event}``."""

    event_ids: Mapping[int, int]
    """``{position in the run: id of the event in the ledger}``."""

    correlation_ids: Mapping[int, str] = field(default_factory=dict)
    """``{position in the run: first event of its chain}``, without events that are the first themselves."""

    def correlation_id(self, position: int) -> str:
        """Return the first event of the chain of an event."""
        return self.correlation_ids.get(position) or event_reference(self.run_id, position)

    @classmethod
    def from_stored(cls, run_id: str, stored: Iterable[StoredEvent]) -> RunEvents:
        """Parse stored events of a run; these need not be all of its events."""
        stored = list(stored)
        events = {event.position: Event.model_validate(event.payload) for event in stored}
        correlation_ids = {event.position: event.correlation_id for event in stored if event.correlation_id}
        return cls(run_id, events, {event.position: event.id for event in stored}, correlation_ids)


@dataclass(frozen=True)
class OnceClaim:
    """A claim to run a process that runs once for the same values."""

    values: Mapping[str, Any]
    """``{field of the event: value}``."""

    is_forced: bool
    """Whether the process runs although another event holds the claim."""

    @property
    def values_digest(self) -> str:
        """Return the key of the values."""
        return _digest("once", json.dumps(self.values, sort_keys=True))


OnceClaims = Mapping[tuple[int, str], OnceClaim]
"""
``{(event, process): claim}``, for the processes that run once.

The event is its position in the request until it is stored, and its id from then on.
"""


@dataclass(frozen=True)
class EventRequest:
    """The events of one request, with the processes that react to each."""

    events: Sequence[NewEvent]
    processes: Sequence[Sequence[tuple[str, str, str]]]
    """For each event its (process, hive, analysis) tuples."""

    claims: OnceClaims = field(default_factory=dict)
    """By position in this request."""

    conflict_key: str | None = None
    """
    A key that is stored only if a request with the same ``Idempotency-Key`` had more events.

    If it is set, the request is a conflict unless all of its events are stored already, or all are new.
    """

    @property
    def byte_count(self) -> int:
        """Return the bytes of the payloads."""
        return sum(len(new_event.payload_text) for new_event in self.events)


@dataclass(frozen=True)
class ProcessStatus:
    """Status of a process of an event in a run."""

    event_id: int
    position: int
    process: str
    hive: str
    analysis: str
    job_id: int | None = None
    state: str = ProcessState.PLANNED
    error: str | None = None
    attempt: str | None = None
    """
    Id of the task instance that waits for the job, or waited last; later ones sort higher.

    Between a retry and the next wait, a :class:`RetryMarker`: no task instance stores an outcome.
    """

    wait_started_at: datetime | None = None
    """When this attempt began to wait."""

    stop_requested_at: datetime | None = None
    """When a user requested the stop of its jobs; ``None`` unless they are to be stopped."""

    stalls: str | None = None
    """Its present stalls, JSON: ``{Stall.key: text}``."""

    finished_at: datetime | None = None
    """When its outcome was stored."""

    rerun: int = 0
    """How often a user had the process run again as a new job; part of the token of the job."""

    @property
    def is_stopping(self) -> bool:
        """Return whether a user has requested to stop its job."""
        return self.stop_requested_at is not None and self.job_id is not None

    @property
    def is_retry_requested(self) -> bool:
        """Return whether a user retries the process, and no task instance has started to wait for it."""
        return self.attempt in list(RetryMarker)

    @property
    def is_finished(self) -> bool:
        """Return whether the process has an outcome."""
        return self.state not in UNFINISHED_STATES


@dataclass(frozen=True)
class ProgressUpdate:
    """Progress of the job tree of a process of an event."""

    event_id: int
    done: int
    total: int
    failed: int
    message: str | None = None
    is_started: bool = True
    """Whether a job of the tree has started."""


@dataclass(frozen=True)
class ProcessOutcome:
    """Outcome of a process of an event."""

    event_id: int
    state: str
    result: Any = None
    error: str | None = None
    counts: Sequence[int] | None = None
    """Jobs of the tree that are finished, exist, and have failed; ``None`` keeps the stored counts."""


@dataclass(frozen=True)
class FollowUpEvent:
    """An event that follows from the success of a process of an event."""

    event_id: int
    process: str
    position: int
    """Position among the follow-up events of the same success, from 0."""

    payload: Mapping[str, Any]
    """With its ``event_id``, which is always the same for the same success and position."""

    error: str | None = None
    """Why the event cannot be sent."""

    id: int = 0
    """Id in the ledger; 0 before the event is stored."""


@dataclass(frozen=True)
class PendingReport:
    """A report to publish."""

    message_id: str
    event_id: int | None
    """None if the event is invalid, or another run has stored it."""

    run_id: str
    routing_key: str
    body: str
    """JSON text, as it is published."""

    is_transient: bool = False
    """Whether the ledger deletes the report once it is sent."""


@dataclass(frozen=True)
class StoredReport:
    """A report of the ledger."""

    event_id: int | None
    routing_key: str
    body: Mapping[str, Any]
    created_at: datetime
    sent_at: datetime | None
    """None until it is published."""

    rejected_reason: str | None = None
    """Why the broker returned or rejected it; None if it did not, or has the report."""


def event_key(event_type: str, event_id: str | int) -> str:
    """Return the key of an event with an ``event_id``; 42 and "42" have the same key."""
    return _digest("id", event_type, str(event_id))


def run_event_key(run_id: str, position: int) -> str:
    """Return the key of an event without an ``event_id``: a duplicate has the same run and position."""
    return _digest("run", run_id, str(position))


def idempotency_event_key(user: str, idempotency_key: str, position: int) -> str:
    """Return the key of an event without an ``event_id`` in a user's request with an ``Idempotency-Key``."""
    return _digest("named", user, idempotency_key, str(position))


def joined_event_key(event_id: str) -> str:
    """Return the key of the event of a join, which no sender can use: its ``event_id`` can be guessed."""
    return _digest("joined", event_id)


def random_event_key() -> str:
    """Return the key of an event that nothing identifies."""
    return _digest("random", uuid4().hex)


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
