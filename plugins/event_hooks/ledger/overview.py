"""Events as people look at them: what has become of each, and what needs them first. Only reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Select, func, or_, select

from event_hooks.events.models import event_reference
from event_hooks.ledger.database import CHUNK
from event_hooks.ledger.records import BAD, GOOD, OPEN
from event_hooks.ledger.tables import event, event_process, follow_up, join_wait, report

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger

HELD_UP = "report.warn"
"""Routing key of the reports that jobs do not get on."""

MOST = 500
"""Events that are looked at to find those that need attention."""


class EventState(StrEnum):
    """What an event has come to, in one word."""

    WAITING = "waiting"  # no job of it was seen at work
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"  # a process of it; others may still run


@dataclass(frozen=True)
class ProcessView:
    """A process of an event, and how far it is."""

    process: str
    hive: str
    analysis: str
    job_id: int | None
    state: str
    """One of :class:`event_hooks.ledger.records.State`."""

    done: int | None
    total: int | None
    failed: int | None
    """Jobs of its tree; None before the first look at it."""

    message: str | None
    error: str | None
    submitted_at: datetime | None
    changed_at: datetime | None
    """When its tree was last seen to have got on."""

    started_at: datetime | None
    """When a job of its tree was first seen at work; None also where it was over before anybody looked."""

    finished_at: datetime | None

    @property
    def is_finished(self) -> bool:
        """Whether it has an outcome."""
        return self.state not in OPEN


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
    """Whether it is known which processes react."""

    processes: tuple[ProcessView, ...] = ()
    stall_report: str | None = None
    """Body of the newest report that jobs of it do not get on, as long as they have not got on since."""

    @property
    def is_finished(self) -> bool:
        """Whether all of its processes are."""
        return all(one.is_finished for one in self.processes) and (self.is_planned or bool(self.processes))

    @property
    def state(self) -> EventState:
        """Give it in one word."""
        if any(one.state in BAD for one in self.processes):
            return EventState.FAILED
        if self.is_finished:
            return EventState.COMPLETE
        begun = any(one.started_at or one.is_finished for one in self.processes)
        return EventState.RUNNING if begun else EventState.WAITING


@dataclass(frozen=True)
class Wanted:
    """Which events somebody wants to see; what is None does not matter."""

    state: str | None = None
    """open, failed or complete."""

    type: str | None = None
    genome: str | None = None
    """What its name begins with."""

    run_id: str | None = None


@dataclass(frozen=True)
class Backlog:
    """What is not over in one hive."""

    hive: str
    waiting: int
    """(event, process) pairs of which no job was seen at work."""

    running: int
    oldest: datetime
    """When the oldest event of them was received."""


@dataclass(frozen=True)
class ToldReport:
    """A report about an event."""

    routing_key: str
    body: Mapping[str, Any]
    created_at: datetime
    sent_at: datetime | None


_COLUMNS = (
    event.c.id,
    event.c.type,
    event.c.genome,
    event.c.source,
    event.c.received_at,
    event.c.run_id,
    event.c.planned_at.is_not(None).label("is_planned"),
)
_PROCESS = tuple(event_process.c[name] for name in ProcessView.__dataclass_fields__)  # in their order


def events(ledger: Ledger, wanted: Wanted, before: int | None = None, limit: int = 50) -> list[EventView]:
    """
    Give events, the newest first.

    :param before: only events with a lower id.
    """
    chosen = select(*_COLUMNS).where(*_conditions(wanted)).order_by(event.c.id.desc()).limit(limit)
    return _viewed(ledger, chosen if before is None else chosen.where(event.c.id < before))


def attention(ledger: Ledger, age: timedelta, limit: int = 20) -> list[EventView]:
    """Give the newest events that failed within that time, or that are open and were told to be held up."""
    recent = event_process.c.finished_at >= datetime.now(UTC) - age
    failed = select(event_process.c.event_id).where(event_process.c.state.in_(BAD), recent)
    ids = {
        row.event_id for row in ledger.read(failed.order_by(event_process.c.finished_at.desc()).limit(MOST))
    }
    warned = event_process.join(report, report.c.event_id == event_process.c.event_id)
    stall_report = (
        select(event_process.c.event_id)
        .select_from(warned)
        .where(event_process.c.state.in_(OPEN), report.c.routing_key == HELD_UP)
        .where(or_(event_process.c.changed_at.is_(None), event_process.c.changed_at < report.c.created_at))
    )
    ids |= {row.event_id for row in ledger.read(stall_report.limit(MOST))}
    chosen = select(*_COLUMNS).where(event.c.id.in_(sorted(ids, reverse=True))).order_by(event.c.id.desc())
    found = _viewed(ledger, chosen) if ids else []
    return [one for one in found if one.state == EventState.FAILED or one.stall_report][:limit]


def one(ledger: Ledger, event_id: int) -> tuple[EventView, dict[str, Any]] | None:
    """Give an event and its payload; None if there is none of this id."""
    found = _viewed(ledger, select(*_COLUMNS).where(event.c.id == event_id))
    if not found:
        return None
    payload = ledger.read(select(event.c.payload).where(event.c.id == event_id))
    return (found[0], json.loads(payload[0].payload)) if payload else None


def chain(ledger: Ledger, event_id: int, limit: int = 100) -> list[EventView]:
    """Give an event with all that it follows from, and all that follows from the same, the oldest first."""
    found = ledger.read(
        select(event.c.run_id, event.c.position, event.c.correlation_id).where(event.c.id == event_id)
    )
    if not found or found[0].run_id is None:
        return []
    first = found[0].correlation_id or event_reference(found[0].run_id, found[0].position)
    is_of_it = event.c.correlation_id == first
    run_id, _, position = first.rpartition("/")
    if re.fullmatch("[0-9]{1,6}", position):  # else it began in another system
        is_of_it |= (event.c.run_id == run_id) & (event.c.position == int(position))
    chosen = select(*_COLUMNS).where(is_of_it)
    return _viewed(ledger, chosen.order_by(event.c.id).limit(limit))


def reports(ledger: Ledger, event_id: int) -> list[ToldReport]:
    """Give the reports of an event, in the order in which they are sent."""
    columns = (report.c.routing_key, report.c.body, report.c.created_at, report.c.sent_at)
    chosen = select(*columns).where(report.c.event_id == event_id).order_by(report.c.id)
    return [ToldReport(key, json.loads(body), *times) for key, body, *times in ledger.read(chosen)]


def backlogs(ledger: Ledger) -> list[Backlog]:
    """Give what is not over, hive by hive."""
    started = func.count(event_process.c.started_at)
    chosen = (
        select(
            event_process.c.hive,
            func.count() - started,
            started,
            func.min(event.c.received_at),
        )
        .select_from(event_process.join(event, event.c.id == event_process.c.event_id))
        .where(event_process.c.state.in_(OPEN))
        .group_by(event_process.c.hive)
        .order_by(event_process.c.hive)
    )
    return [Backlog(*row) for row in ledger.read(chosen)]


def count_pending(ledger: Ledger) -> dict[str, int]:
    """Count what is still to be done: events that no run has begun, reports and events that are owed."""
    owed = follow_up.c.sent_at.is_(None) & follow_up.c.error.is_(None)
    counts = {
        "events_not_started": select(func.count()).select_from(event).where(event.c.planned_at.is_(None)),
        "reports_pending": select(func.count()).select_from(report).where(report.c.sent_at.is_(None)),
        "follow_ups_pending": select(func.count()).select_from(follow_up).where(owed),
    }
    (row,) = ledger.read(select(*(count.scalar_subquery().label(name) for name, count in counts.items())))
    return dict(row._mapping)


def has_pending_work(ledger: Ledger) -> bool:
    """Tell, by one query, whether there is something that ``maintain_ledger`` has to do."""
    is_owed = follow_up.c.sent_at.is_(None) & follow_up.c.error.is_(None)
    is_late = (join_wait.c.open_marker == 1) & (join_wait.c.expires_at <= datetime.now(UTC))
    whether = [
        select(event.c.id).where(event.c.planned_at.is_(None)).exists(),
        select(report.c.id).where(report.c.sent_at.is_(None)).exists(),
        select(follow_up.c.id).where(is_owed).exists(),
        select(join_wait.c.id).where(is_late).exists(),
    ]
    return bool(ledger.read(select(or_(*whether)))[0][0])


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    exact = {"type": wanted.type, "run_id": wanted.run_id}
    found = [event.c[name] == value for name, value in exact.items() if value is not None]
    if wanted.genome is not None:
        found.append(event.c.genome.startswith(wanted.genome, autoescape=True))
    if wanted.state is not None:
        found.append(_in_state(wanted.state))
    return found


def _in_state(state: str) -> ColumnElement[bool]:
    processes = select(event_process.c.event_id)
    match state:
        case "failed":
            return event.c.id.in_(processes.where(event_process.c.state.in_(BAD)))
        case "open":
            unplanned = select(event.c.id).where(event.c.planned_at.is_(None))
            return event.c.id.in_(processes.where(event_process.c.state.in_(OPEN)).union_all(unplanned))
        case "complete":
            mine = processes.where(event_process.c.event_id == event.c.id)
            not_complete = mine.where(event_process.c.state.not_in(GOOD))
            return event.c.planned_at.is_not(None) & ~not_complete.exists()
    raise ValueError(f"state: expected open, failed or complete, not {state!r}")


def _viewed(ledger: Ledger, chosen: Select[Any]) -> list[EventView]:
    found = [EventView(*row) for row in ledger.read(chosen)]
    ids = [view.id for view in found]
    processes: dict[int, list[ProcessView]] = {}
    for event_id, *row in _of(
        ledger, select(event_process.c.event_id, *_PROCESS), event_process.c.event_id, ids
    ):
        processes.setdefault(event_id, []).append(ProcessView(*row))
    found = [
        replace(view, processes=tuple(sorted(processes.get(view.id, ()), key=lambda one: one.process)))
        for view in found
    ]
    return _with_troubles(ledger, found)


def _with_troubles(ledger: Ledger, found: list[EventView]) -> list[EventView]:
    views = {view.id: view for view in found if not view.is_finished}
    warnings = select(report.c.event_id, report.c.body, report.c.created_at).where(
        report.c.routing_key == HELD_UP
    )
    told: dict[int, str] = {}
    for event_id, body, created_at in _of(
        ledger, warnings.order_by(report.c.id), report.c.event_id, list(views)
    ):
        if any(_is_about(body, created_at, one) for one in views[event_id].processes):
            told[event_id] = body
    return [replace(view, stall_report=told.get(view.id)) for view in found]


def _is_about(body: str, created_at: datetime, view: ProcessView) -> bool:
    """Tell whether a warning is of a process that has not got on since."""
    named = json.loads(body).get("params", {}).get("event_hooks", {}).get("processes", ())
    got_on = view.changed_at and view.changed_at > created_at
    return view.process in named and not view.is_finished and not got_on


def _of(ledger: Ledger, chosen: Select[Any], column: Any, ids: Sequence[int]) -> list[Any]:
    return [
        row
        for start in range(0, len(ids), CHUNK)
        for row in ledger.read(chosen.where(column.in_(ids[start : start + CHUNK])))
    ]
