"""Queries of the event board and the API: events with their processes, reports and backlogs. Read-only."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Select, func, literal, or_, select, true

from event_hooks.events.models import event_reference
from event_hooks.ledger import follow_ups, joins, notifications
from event_hooks.ledger.clock import load_time
from event_hooks.ledger.database import read_matching
from event_hooks.ledger.records import (
    FAILURE_STATES,
    SUCCESS_STATES,
    UNFINISHED_STATES,
    ProcessState,
    StoredReport,
)
from event_hooks.ledger.reports import build_stored_report, is_rejected, select_ready
from event_hooks.ledger.tables import event, event_process, follow_up, join_wait, notification, report
from event_hooks.ledger.views import EventFilter, EventState, EventView, HiveBacklog, ProcessView

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger

MAINTENANCE_AGE = timedelta(seconds=30)
"""Age from which unfinished work is left to `maintain_ledger`, and not to the component that created it."""

MAX_ATTENTION_EVENTS = 500
"""Failed events that :func:`list_events_needing_attention` reads; as many rejected, and stalled ones."""


_EVENT_COLUMNS = (
    event.c.id,
    event.c.type,
    event.c.genome,
    event.c.source,
    event.c.received_at,
    event.c.run_id,
    event.c.planned_at.is_not(None).label("is_planned"),
    event.c.rejected_reason,
)
_PROCESS_COLUMNS = tuple(event_process.c[name] for name in ProcessView.__dataclass_fields__)


def list_events(
    ledger: Ledger, event_filter: EventFilter, before_id: int | None = None, limit: int = 50
) -> list[EventView]:
    """
    Return events, the newest first.

    :param before_id: return only events with a lower id.
    :raises ValueError: if the filter has an unknown state.
    """
    statement = select(*_EVENT_COLUMNS).where(*_build_conditions(event_filter))
    statement = statement.order_by(event.c.id.desc()).limit(limit)
    if before_id is not None:
        statement = statement.where(event.c.id < before_id)
    # A statement for each condition: with an OR, PostgreSQL reads all failed events.
    views = {
        view.id: view
        for condition in _build_state_conditions(event_filter.state)
        for view in _load_views(ledger, statement.where(condition))
    }
    return sorted(views.values(), key=attrgetter("id"), reverse=True)[:limit]


def count_events(
    ledger: Ledger, event_filter: EventFilter, states: Sequence[str], limit: int
) -> dict[str, int]:
    """Count the events of each state that match a filter, up to ``limit``: ``{state: number}``."""
    statement = select(event.c.id).where(*_build_conditions(event_filter)).order_by(event.c.id.desc())
    counts = {}
    for state in states:
        conditions = _build_state_conditions(state)
        ids = {
            row.id for condition in conditions for row in ledger.read(statement.where(condition).limit(limit))
        }
        counts[state] = min(len(ids), limit)
    return counts


def list_events_needing_attention(ledger: Ledger, age: timedelta, limit: int = 20) -> list[EventView]:
    """Return the newest events that failed or were rejected within ``age``, or have stalled jobs."""
    since = load_time(ledger) - age
    statements = (_select_failed(since), _select_rejected(since), _select_stalled())
    event_ids = {event_id for statement in statements for event_id in _load_ids(ledger, statement)}
    if not event_ids:
        return []
    views = load_event_views(ledger, sorted(event_ids))
    failures = (EventState.FAILED, EventState.REJECTED)
    return [view for view in views if view.state in failures or view.is_stalled][:limit]


def load_event_views(ledger: Ledger, event_ids: Sequence[int]) -> list[EventView]:
    """Return events, the newest first; those that the ledger does not have are left out."""
    statement = select(*_EVENT_COLUMNS).where(event.c.id.in_(event_ids))
    return _load_views(ledger, statement.order_by(event.c.id.desc()))


def load_event_view(ledger: Ledger, event_id: int) -> tuple[EventView, dict[str, Any]] | None:
    """Return an event and its payload, or ``None`` if the ledger does not have it."""
    views = _load_views(ledger, select(*_EVENT_COLUMNS).where(event.c.id == event_id))
    if not views:
        return None
    rows = ledger.read(select(event.c.payload).where(event.c.id == event_id))
    return (views[0], json.loads(rows[0].payload)) if rows else None


def list_related_events(ledger: Ledger, event_id: int, limit: int = 100) -> list[EventView]:
    """Return all events of the chain of an event, the oldest first; an empty list until it has a run."""
    columns = (event.c.run_id, event.c.position, event.c.correlation_id)
    rows = ledger.read(select(*columns).where(event.c.id == event_id))
    if not rows or rows[0].run_id is None:
        return []
    correlation_id = rows[0].correlation_id or event_reference(rows[0].run_id, rows[0].position)
    is_related = event.c.correlation_id == correlation_id
    run_id, _, position = correlation_id.rpartition("/")
    if re.fullmatch("[0-9]{1,6}", position):  # otherwise the chain started in another system
        is_related |= (event.c.run_id == run_id) & (event.c.position == int(position))
    statement = select(*_EVENT_COLUMNS).where(is_related)
    return _load_views(ledger, statement.order_by(event.c.id).limit(limit))


def list_reports(ledger: Ledger, event_id: int) -> list[StoredReport]:
    """Return the reports of an event, in the order in which they are published."""
    rows = ledger.read(select(report).where(report.c.event_id == event_id).order_by(report.c.id))
    return [build_stored_report(row) for row in rows]


def load_backlogs(ledger: Ledger) -> list[HiveBacklog]:
    """Return the unfinished processes of each hive that has some, by hive."""
    started = func.count(event_process.c.started_at)
    statement = (
        select(event_process.c.hive, func.count() - started, started, func.min(event.c.received_at))
        .select_from(event_process.join(event, event.c.id == event_process.c.event_id))
        .where(event_process.c.state.in_(UNFINISHED_STATES))
        .group_by(event_process.c.hive)
        .order_by(event_process.c.hive)
    )
    return [HiveBacklog(*row) for row in ledger.read(statement)]


def count_pending(ledger: Ledger) -> dict[str, int]:
    """
    Count the pending work: events without a plan, pending reports and pending follow-up events.

    ``reports_rejected`` are the pending reports that the broker has returned or rejected.
    """
    pending_reports = select(func.count()).select_from(report).where(report.c.sent_at.is_(None))
    is_pending = follow_ups.is_pending()
    counts = {
        "events_not_started": select(func.count()).select_from(event).where(event.c.planned_at.is_(None)),
        "reports_pending": pending_reports,
        "reports_rejected": pending_reports.where(is_rejected()),
        "follow_ups_pending": select(func.count()).select_from(follow_up).where(is_pending),
    }
    (row,) = ledger.read(select(*(count.scalar_subquery().label(name) for name, count in counts.items())))
    return dict(row._mapping)


def has_pending_work(ledger: Ledger) -> bool:
    """Return, by one query, whether ``maintain_ledger`` has work to do."""
    conditions = [
        select(event.c.id).where(event.c.planned_at.is_(None)).exists(),
        select(report.c.id).where(report.c.sent_at.is_(None)).exists(),
        select(follow_up.c.id).where(follow_ups.is_pending()).exists(),
        select(join_wait.c.id).where(joins.is_expired()).exists(),
        select(notification.c.id).where(notifications.is_ready()).exists(),
    ]
    return bool(ledger.read(select(or_(*conditions)))[0][0])


def needs_maintenance(ledger: Ledger) -> bool:
    """
    Return, by one query, whether there is work that may need `maintain_ledger`.

    It is work older than :data:`MAINTENANCE_AGE`: events without a plan, reports, follow-up events and
    notifications that could be sent, and unfinished processes, because their run may have been deleted, their
    stop interrupted, or their deadline missed. An expired join is such work at once.
    """
    cutoff = load_time(ledger) - MAINTENANCE_AGE
    unfinished = select(event.c.id).join(event_process, event_process.c.event_id == event.c.id)
    is_unfinished = event_process.c.state.in_(UNFINISHED_STATES)
    unsent = select_ready(report.c.id).where(report.c.created_at <= cutoff).limit(1)
    pending = [
        select(event.c.id).where(event.c.planned_at.is_(None), event.c.received_at <= cutoff),
        unfinished.where(is_unfinished, event.c.received_at <= cutoff),
        select(follow_up.c.id).where(follow_ups.is_pending(), follow_up.c.created_at <= cutoff),
        select(notification.c.id).where(notifications.is_ready(), notification.c.created_at <= cutoff),
        select(join_wait.c.id).where(joins.is_expired()),
    ]
    conditions = [unsent.scalar_subquery().is_not(None), *(statement.exists() for statement in pending)]
    return bool(ledger.read(select(or_(*conditions)))[0][0])


def _build_conditions(event_filter: EventFilter) -> list[ColumnElement[bool]]:
    exact = {"type": event_filter.type, "run_id": event_filter.run_id}
    conditions = [event.c[name] == value for name, value in exact.items() if value is not None]
    if event_filter.genome is not None:
        conditions.append(event.c.genome.startswith(event_filter.genome, autoescape=True))
    if event_filter.genome_pattern is not None:
        parts = event_filter.genome_pattern.split("*")
        pattern = "%".join(re.sub(r"([%_/])", r"/\1", part) for part in parts)
        conditions.append(event.c.genome.like(pattern, escape="/"))
    if event_filter.number is not None:
        of_job = select(event_process.c.event_id).where(event_process.c.job_id == event_filter.number)
        conditions.append(event.c.id.in_(of_job.union_all(select(literal(event_filter.number)))))
    if event_filter.since is not None:
        conditions.append(event.c.received_at >= event_filter.since)
    if event_filter.until is not None:
        conditions.append(event.c.received_at < event_filter.until)
    return conditions


def _build_state_conditions(state: str | None) -> list[ColumnElement[bool]]:
    """Return conditions of which an event with this state fulfills at least one."""
    event_ids = select(event_process.c.event_id)
    match state:
        case None:
            return [true()]
        case "failed":
            failed = event_ids.where(event_process.c.state.in_(FAILURE_STATES))
            return [event.c.id.in_(failed), event.c.rejected_at.is_not(None)]
        case "open":
            unplanned = select(event.c.id).where(event.c.planned_at.is_(None))
            unfinished = event_ids.where(event_process.c.state.in_(UNFINISHED_STATES))
            return [event.c.id.in_(unfinished.union_all(unplanned))]
        case "complete":
            of_event = event_ids.where(event_process.c.event_id == event.c.id)
            not_complete = of_event.where(event_process.c.state.not_in(SUCCESS_STATES))
            is_accepted = event.c.planned_at.is_not(None) & event.c.rejected_at.is_(None)
            return [is_accepted & ~not_complete.exists()]
    raise ValueError(f"state: expected open, failed or complete, not {state!r}")


def _select_failed(since: datetime) -> Select[Any]:
    is_recent = event_process.c.finished_at >= since
    states = [state for state in FAILURE_STATES if state != ProcessState.STOPPED]  # by a user
    statement = select(event_process.c.event_id).where(event_process.c.state.in_(states), is_recent)
    return statement.order_by(event_process.c.finished_at.desc())


def _select_rejected(since: datetime) -> Select[Any]:
    is_recent = event.c.rejected_at >= since
    return select(event.c.id.label("event_id")).where(is_recent).order_by(event.c.rejected_at.desc())


def _select_stalled() -> Select[Any]:
    is_stalled = event_process.c.stalls.is_not(None)
    return select(event_process.c.event_id).where(event_process.c.state.in_(UNFINISHED_STATES), is_stalled)


def _load_ids(ledger: Ledger, statement: Select[Any]) -> set[int]:
    return {row.event_id for row in ledger.read(statement.limit(MAX_ATTENTION_EVENTS))}


def _load_views(ledger: Ledger, statement: Select[Any]) -> list[EventView]:
    views = [EventView(*row) for row in ledger.read(statement)]
    processes = _load_processes(ledger, [view.id for view in views])
    return [replace(view, processes=tuple(processes.get(view.id, ()))) for view in views]


def _load_processes(ledger: Ledger, event_ids: Sequence[int]) -> dict[int, list[ProcessView]]:
    """Return ``{event id: its processes by name}``."""
    statement = select(event_process.c.event_id, *_PROCESS_COLUMNS)
    processes: dict[int, list[ProcessView]] = {}
    for event_id, *columns in read_matching(ledger.read, statement, event_process.c.event_id, event_ids):
        processes.setdefault(event_id, []).append(ProcessView(*columns))
    return {event_id: sorted(views, key=attrgetter("process")) for event_id, views in processes.items()}
