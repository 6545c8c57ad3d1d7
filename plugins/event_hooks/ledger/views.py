"""Views of events for the event board and the API: an event with its processes, and filters for events."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from event_hooks.ledger.records import FAILURE_STATES, UNFINISHED_STATES


class EventState(StrEnum):
    """State of an event, from the states of its processes."""

    WAITING = "waiting"  # no job was seen running
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"  # a process has failed; others may still run
    REJECTED = "rejected"  # no process runs for it because of an error


@dataclass(frozen=True)
class ProcessView:
    """A process of an event with its progress."""

    process: str
    hive: str
    analysis: str
    job_id: int | None
    state: str
    """One of :class:`event_hooks.ledger.records.ProcessState`."""

    done: int | None
    total: int | None
    failed: int | None
    """Jobs of its tree; ``None`` before the hive was first polled."""

    message: str | None
    error: str | None
    submitted_at: datetime | None
    changed_at: datetime | None
    """When progress of its tree was last seen."""

    started_at: datetime | None
    """When a job of its tree was first seen running; ``None`` also if the tree finished before a poll."""

    finished_at: datetime | None
    stop_requested_at: datetime | None
    """When a user requested its stop; ``None`` unless its jobs are being stopped."""

    stalls: str | None
    """As in :class:`event_hooks.ledger.records.ProcessStatus`."""

    @property
    def is_finished(self) -> bool:
        """Return whether the process has an outcome."""
        return self.state not in UNFINISHED_STATES

    @property
    def stall_texts(self) -> list[str]:
        """Return the text of each present stall: jobs, reason and advice."""
        return list(json.loads(self.stalls or "{}").values())


@dataclass(frozen=True)
class EventView:
    """An event with its processes."""

    id: int
    type: str
    genome: str | None
    source: str
    received_at: datetime
    run_id: str | None
    is_planned: bool
    """Whether the processes of the event are stored."""

    rejected_reason: str | None
    """Why no process runs for the event; ``None`` unless it is rejected."""

    processes: tuple[ProcessView, ...] = ()

    @property
    def is_finished(self) -> bool:
        """Return whether all processes are finished."""
        has_plan = self.is_planned or bool(self.processes)
        return has_plan and all(process.is_finished for process in self.processes)

    @property
    def is_stalled(self) -> bool:
        """Return whether jobs of a process are stalled."""
        return any(process.stalls and not process.is_finished for process in self.processes)

    @property
    def state(self) -> EventState:
        """Return the state of the event."""
        if self.rejected_reason is not None:
            return EventState.REJECTED
        if any(process.state in FAILURE_STATES for process in self.processes):
            return EventState.FAILED
        if self.is_finished:
            return EventState.COMPLETE
        is_started = any(process.started_at or process.is_finished for process in self.processes)
        return EventState.RUNNING if is_started else EventState.WAITING


@dataclass(frozen=True)
class EventFilter:
    """Conditions on events; ``None`` accepts all events."""

    state: str | None = None
    """``open``, ``failed`` (also rejected events) or ``complete``."""

    type: str | None = None
    genome: str | None = None
    """Prefix of the genome."""

    run_id: str | None = None
    since: datetime | None = None
    """Earliest time of arrival."""

    until: datetime | None = None
    """Time of arrival from which on events are left out."""

    number: int | None = None
    """Id of the event, or of a job of one of its processes."""

    genome_pattern: str | None = None
    """The whole genome; ``*`` stands for any text."""


@dataclass(frozen=True)
class HiveBacklog:
    """Unfinished processes of one hive."""

    hive: str
    waiting: int
    """(event, process) pairs of which no job was seen running."""

    running: int
    oldest: datetime
    """When the oldest event of them was received."""
