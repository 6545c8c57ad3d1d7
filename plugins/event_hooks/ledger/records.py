"""What the ledger keeps, as its callers see it; an event's key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """What a (process, event) has come to."""

    PLANNED = "planned"
    SUBMITTED = "submitted"
    COMPLETE = "complete"
    FAILED = "failed"
    STOPPED = "stopped"
    MISSING = "missing"
    TIMED_OUT = "timed_out"
    NOT_SUBMITTED = "not_submitted"
    UNKNOWN = "unknown"  # nobody looked how the job ended
    SKIPPED = "skipped"  # done, or being done, for another event with the same values


OPEN = (State.PLANNED, State.SUBMITTED)
"""States of what is not over."""

GOOD = (State.COMPLETE, State.SKIPPED)
"""States of what has ended as it should."""

BAD = tuple(state for state in State if state not in (*OPEN, *GOOD))
"""States of what has ended otherwise."""


@dataclass(frozen=True)
class NewEvent:
    """An event that has arrived."""

    key: str
    """From :func:`event_key` or :func:`run_event_key`."""

    type: str
    genome: str | None
    payload: Mapping[str, Any]
    source: str


@dataclass(frozen=True)
class StoredEvent:
    """An event as the ledger has it."""

    id: int
    payload: dict[str, Any]
    run_id: str | None
    """None as long as no run was started for it."""

    position: int
    """In its run, from 0; as long as it has none, in the call that wrote it."""

    is_new: bool = False
    """Whether it was this call that wrote it."""

    is_planned: bool = field(default=False, compare=False)
    """Whether its run has noted what will be done for it."""


@dataclass(frozen=True)
class OnceClaim:
    """That a process is done once for some values."""

    values: Mapping[str, Any]
    """``{field of the event: value}``."""

    is_forced: bool
    """Whether it is done in any case."""

    @property
    def subject(self) -> str:
        """Give the key of the values."""
        return _digest("once", json.dumps(self.values, sort_keys=True))


OnceClaims = Mapping[tuple[int, str], OnceClaim]
"""``{(position, process): claim}``, of the processes that have one."""


@dataclass(frozen=True)
class EventRequest:
    """Events that came in together, as in one request, with what will be done for them."""

    events: Sequence[NewEvent]
    processes: Sequence[Sequence[tuple[str, str, str]]]
    """For each event the (process, hive, analysis) that it gets."""

    claims: OnceClaims = field(default_factory=dict)
    """Positions are those in this arrival."""

    unlike: str | None = None
    """A key that is there only if other events came under the same name; with it, all or none are known."""


@dataclass(frozen=True)
class ProcessStatus:
    """How a (process, event) of a run stands."""

    event_id: int
    position: int
    process: str
    hive: str
    analysis: str
    job_id: int | None = None
    state: str = State.PLANNED
    error: str | None = None
    attempt: str | None = None

    @property
    def is_finished(self) -> bool:
        """Whether it has an outcome."""
        return self.state not in OPEN


@dataclass(frozen=True)
class Progress:
    """How far the job tree of a (process, event) is."""

    event_id: int
    done: int
    total: int
    failed: int
    message: str | None = None
    is_started: bool = True
    """Whether a job of it was seen at work."""


@dataclass(frozen=True)
class ProcessOutcome:
    """How the job of a (process, event) has ended."""

    event_id: int
    state: str
    result: Any = None
    error: str | None = None
    counts: Sequence[int] | None = None
    """How many jobs of its tree are done, are known, and have failed; None leaves what is noted."""


@dataclass(frozen=True)
class FollowUpEvent:
    """An event that follows from the success of a (process, event), and has to be handed on."""

    event_id: int
    process: str
    position: int
    """Among those of the same success, from 0."""

    payload: Mapping[str, Any]
    """With its ``event_id``, which is the same whenever it is made again."""

    error: str | None = None
    """Why it cannot be handed on."""

    id: int = 0
    """In the ledger."""


@dataclass(frozen=True)
class PendingReport:
    """A report as it will be sent."""

    message_id: str
    event_id: int | None
    """None if the event could not be read, or is known from another run."""

    run_id: str
    routing_key: str
    body: str


@dataclass(frozen=True)
class StoredReport:
    """A report as the ledger has it."""

    event_id: int | None
    routing_key: str
    body: str
    created_at: datetime
    sent_at: datetime | None


def event_key(event_type: str, event_id: str | int) -> str:
    """Give the key of an event with an ``event_id``; 42 and "42" are the same."""
    return _digest("id", event_type, str(event_id))


def run_event_key(run_id: str, position: int) -> str:
    """Give the key of an event without one: it is the same only where it came."""
    return _digest("run", run_id, str(position))


def idempotency_event_key(name: str, position: int) -> str:
    """Give the key of an event without an ``event_id`` whose sender has named the request ."""
    return _digest("named", name, str(position))


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
