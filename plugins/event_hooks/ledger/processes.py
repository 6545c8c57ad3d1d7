"""Processes of events: the plan, the jobs, the progress and the outcomes."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from more_itertools import sliced
from sqlalchemy import ColumnElement, Connection, Integer, bindparam, case, func, or_, select, update

from event_hooks import metrics
from event_hooks.ledger import once
from event_hooks.ledger.database import CHUNK, Ledger, execute_updates, sanitize_text
from event_hooks.ledger.follow_ups import insert_follow_ups
from event_hooks.ledger.records import (
    OPEN,
    FollowUpEvent,
    PendingReport,
    ProcessOutcome,
    ProcessStatus,
    Progress,
    State,
)
from event_hooks.ledger.reports import insert_reports
from event_hooks.ledger.tables import Instant, event, event_process

_COUNTS = ("done", "total", "failed")
"""Columns that count jobs of a tree."""


def load_run_statuses(ledger: Ledger, run_id: str) -> list[ProcessStatus]:
    """Give how each (process, event) of a run stands, in the order of positions."""
    return _read_statuses(ledger, event.c.run_id == run_id)


def load_statuses(ledger: Ledger, event_ids: Sequence[int]) -> list[ProcessStatus]:
    """Give how each process of some events stands."""
    return [one for some in sliced(event_ids, CHUNK) for one in _read_statuses(ledger, event.c.id.in_(some))]


def load_planned_processes(ledger: Ledger, run_id: str) -> dict[int, list[str]]:
    """Give what is noted for a run's events, and not skipped: ``{position: processes}``."""
    noted: dict[int, list[str]] = {}
    for one in load_run_statuses(ledger, run_id):
        names = noted.setdefault(one.position, [])
        if one.state != State.SKIPPED:
            names.append(one.process)
    return noted


def is_run_planned(ledger: Ledger, run_id: str) -> bool:
    """Return whether ``route`` has planned the run, if only that no process reacts to its events."""
    is_planned = (event.c.run_id == run_id) & event.c.planned_at.is_not(None)
    return bool(ledger.read(select(event.c.id).where(is_planned).limit(1)))


def store_plan(
    ledger: Ledger,
    run_id: str,
    planned: Sequence[ProcessStatus],
    claims: once.Wanted | None = None,
    reports: Callable[[Collection[tuple[int, str]]], Sequence[PendingReport]] = lambda _: (),
) -> set[tuple[int, str]]:
    """
    Note what a run will do for its events, together with the reports that are owed for it.

    :param claims: of what is done once for some values.
    :param reports: makes the reports; is given what this returns.
    :return: what is not done, because another event has it: ``{(event id, process), …}``.
    """
    routed = (
        update(event)
        .where(event.c.run_id == run_id, event.c.planned_at.is_(None))
        .values(planned_at=datetime.now(UTC))
    )

    def write(connection: Connection) -> set[tuple[int, str]]:
        states = _load_states(connection, [one.event_id for one in planned])
        new = [one for one in planned if (one.event_id, one.process) not in states]
        states |= once.add_planned(connection, new, claims or {})
        connection.execute(routed)
        skipped = {key for key, state in states.items() if state == State.SKIPPED}
        insert_reports(connection, reports(skipped))
        return skipped

    return ledger.write(write)


def store_jobs(
    ledger: Ledger, jobs: Mapping[tuple[int, str], int], reports: Sequence[PendingReport] = ()
) -> None:
    """Note the job of each (event id, process) that waits for one, and reports of that."""
    now = datetime.now(UTC)
    rows = [
        {
            "of": of,
            "by": by,
            "job_id": job_id,
            "submitted_at": now,
            "state": State.SUBMITTED,
            "error": None,
            "finished_at": None,
        }
        for (of, by), job_id in sorted(jobs.items())
    ]
    mine = (event_process.c.event_id == bindparam("of")) & (event_process.c.process == bindparam("by"))
    waits = _has_state(State.PLANNED, State.NOT_SUBMITTED)

    def write(connection: Connection) -> list[tuple[str, datetime]]:
        since = _load_waiting_since(connection, list(jobs)) if metrics.are_on() else []
        execute_updates(connection, update(event_process).where(mine, waits), rows)
        insert_reports(connection, reports)
        return since

    metrics.ready(ledger.write(write))


def store_progress(
    ledger: Ledger, process: str, progress: Sequence[Progress], reports: Sequence[PendingReport] = ()
) -> None:
    """Note how far trees are, and reports of that; of those that are over, the outcome stays."""
    now = datetime.now(UTC)
    rows = [
        {
            "of": one.event_id,
            "by": process,
            "done": one.done,
            "total": one.total,
            "failed": one.failed,
            "message": None if one.message is None else sanitize_text(one.message),
            "started_at": now if one.is_started else None,
            "now": now,
        }
        for one in progress
    ]

    def write(connection: Connection) -> None:
        for some in sliced(rows, CHUNK):
            connection.execute(_PROGRESS_UPDATE, some)
        insert_reports(connection, reports)

    ledger.write(write)


def store_outcomes(
    ledger: Ledger,
    process: str,
    outcomes: Sequence[ProcessOutcome],
    attempt: str,
    reports: Sequence[PendingReport],
    follow_ups: Sequence[FollowUpEvent] = (),
) -> None:
    """
    Note how jobs have ended, together with the reports that are owed for it.

    Each attempt has one outcome, and a later attempt's goes before an earlier one's.

    :param attempt: the wait's task instance, whose ids sort by time; empty if there was no wait.
    :param reports: each with its event; left out if the event has an outcome of another attempt.
    :param follow_ups: events that have to be handed on now; left out in the same way.
    """
    now = datetime.now(UTC)
    columns = event_process.c
    rows = [
        {
            "of": one.event_id,
            "state": one.state,
            "result": json.dumps(one.result),
            "error": None if one.error is None else sanitize_text(one.error),
            "finished_at": now,
            "attempt": attempt,
        }
        for one in outcomes
    ]
    counted = [
        {"of": one.event_id, **dict(zip(_COUNTS, one.counts, strict=True))}
        for one in outcomes
        if one.counts is not None
    ]
    later = _has_state(*OPEN) | (columns.attempt < attempt)
    known = select(columns.event_id).where(columns.process == process, columns.attempt == attempt)

    def write(connection: Connection) -> None:
        execute_updates(connection, _update_of(process).where(later), counted)
        execute_updates(connection, _update_of(process).where(later), rows)
        mine = {
            event_id
            for some in sliced([one.event_id for one in outcomes], CHUNK)
            for event_id in connection.execute(known.where(columns.event_id.in_(some))).scalars()
        }
        insert_reports(connection, [one for one in reports if one.event_id in mine])
        insert_follow_ups(connection, [one for one in follow_ups if one.event_id in mine])

    ledger.write(write)


def reopen_processes(ledger: Ledger, process: str, event_ids: Collection[int]) -> None:
    """Note that jobs which were over are waited for again."""
    closed = {"state": State.SUBMITTED, "result": None, "error": None, "finished_at": None}
    over = ~_has_state(*OPEN, State.NOT_SUBMITTED, State.SKIPPED)
    rows = [{"of": event_id, **closed} for event_id in event_ids]
    ledger.write(lambda connection: execute_updates(connection, _update_of(process).where(over), rows))


def _read_statuses(ledger: Ledger, whose: ColumnElement[bool]) -> list[ProcessStatus]:
    columns = event_process.c
    names = (columns.process, columns.hive, columns.analysis, columns.job_id)
    ended = (columns.state, columns.error, columns.attempt)
    joined = event.join(event_process, columns.event_id == event.c.id)
    wanted = select(event.c.id, event.c.position, *names, *ended).select_from(joined)
    found = ledger.read(wanted.where(whose))
    return sorted((ProcessStatus(*row) for row in found), key=lambda one: (one.position, one.process))


def _update_of(process: str) -> Any:
    mine = event_process.c.event_id == bindparam("of")
    return update(event_process).where(mine, event_process.c.process == process)


def _has_state(*states: State) -> ColumnElement[bool]:
    return or_(*(event_process.c.state == state for state in states))  # IN cannot be executed many times


def _progress_update() -> Any:
    """Give the statement that notes how far trees are; only what has changed is news."""
    columns, counts = event_process.c, {name: bindparam(name, type_=Integer()) for name in _COUNTS}
    started = bindparam("started_at", type_=Instant())
    is_news = [columns[name].is_distinct_from(count) for name, count in counts.items()]
    is_news.append(columns.started_at.is_(None) & started.is_not(None))
    return (
        update(event_process)
        .where(columns.event_id == bindparam("of"), columns.process == bindparam("by"), _has_state(*OPEN))
        .ordered_values(  # this order: MySQL would compare with what it has just set
            (
                columns.changed_at,
                case((or_(*is_news), bindparam("now", type_=Instant())), else_=columns.changed_at),
            ),
            *((columns[name], count) for name, count in counts.items()),
            (columns.started_at, func.coalesce(columns.started_at, started)),
            (columns.message, bindparam("message")),
        )
    )


def _load_states(connection: Connection, event_ids: Sequence[int]) -> dict[tuple[int, str], State]:
    """Give what is noted for events: ``{(event id, process): state}``."""
    columns = (event_process.c.event_id, event_process.c.process, event_process.c.state)
    return {
        (event_id, process): State(state)
        for some in sliced(event_ids, CHUNK)
        for event_id, process, state in connection.execute(
            select(*columns).where(event_process.c.event_id.in_(some))
        )
    }


def _load_waiting_since(
    connection: Connection, pairs: Sequence[tuple[int, str]]
) -> list[tuple[str, datetime]]:
    """Give the hive of each (event id, process) that waits for its job, and when its event was received."""
    columns = (event_process.c.event_id, event_process.c.process, event_process.c.hive, event.c.received_at)
    waits = _has_state(State.PLANNED, State.NOT_SUBMITTED)
    joined = event_process.join(event, event.c.id == event_process.c.event_id)
    wanted, mine = select(*columns).select_from(joined).where(waits), set(pairs)
    return [
        (hive, received_at)
        for some in sliced(sorted({event_id for event_id, _ in pairs}), CHUNK)
        for event_id, process, hive, received_at in connection.execute(wanted.where(event.c.id.in_(some)))
        if (event_id, process) in mine
    ]


_PROGRESS_UPDATE = _progress_update()
