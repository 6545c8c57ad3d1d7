"""Processes that are not finished ``deadline`` seconds after ``route`` has planned them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import ColumnElement, or_, select, update

from event_hooks.ledger.clock import load_time, utc_now
from event_hooks.ledger.notifications import insert_notifications
from event_hooks.ledger.records import UNFINISHED_STATES
from event_hooks.ledger.reports import insert_reports
from event_hooks.ledger.tables import event, event_process
from event_hooks.notifier_settings import NotificationKind

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.records import PendingReport


class LateProcess(NamedTuple):
    """An unfinished process of an event."""

    position: int
    job_id: int | None
    event_id: int


def list_late(ledger: Ledger, deadlines: Mapping[str, float]) -> list[tuple[str, str]]:
    """
    Return (run id, process) of late processes that were not reported yet.

    :param deadlines: ``{process: seconds}``.
    """
    if not deadlines:
        return []
    now = load_time(ledger)
    conditions = [
        (event_process.c.process == process) & (event.c.planned_at <= now - timedelta(seconds=seconds))
        for process, seconds in deadlines.items()
    ]
    joined = event.join(event_process, event_process.c.event_id == event.c.id)
    statement = select(event.c.run_id, event_process.c.process).select_from(joined).distinct()
    rows = ledger.read(statement.where(_is_unreported(), or_(*conditions)))
    return [(row.run_id, row.process) for row in rows]


def store_late(
    ledger: Ledger,
    run_id: str,
    process: str,
    build_reports: Callable[[Sequence[LateProcess]], Sequence[PendingReport]],
    notifiers: Collection[int] = (),
) -> None:
    """
    Store that unfinished processes of a run are late, with report and notifications, in one transaction.

    Idempotent: a process is late once.

    :param build_reports: called with those that were not reported yet, by position, if there are any.
    :param notifiers: of late processes, by position in the setting.
    """
    joined = event.join(event_process, event_process.c.event_id == event.c.id)
    statement = (
        select(event.c.position, event_process.c.job_id, event.c.id)
        .select_from(joined)
        .where(event.c.run_id == run_id, event_process.c.process == process, _is_unreported())
        .order_by(event.c.position)
        .with_for_update(of=event_process)
    )

    def write(connection: Connection) -> None:
        late = [LateProcess(*row) for row in connection.execute(statement)]
        if late:
            event_ids = select(event.c.id).where(event.c.run_id == run_id)
            is_late = event_process.c.event_id.in_(event_ids) & (event_process.c.process == process)
            mark_late = update(event_process).where(is_late, _is_unreported())
            connection.execute(mark_late.values(late_at=utc_now()))
            insert_reports(connection, build_reports(late))
            late_ids = [late_process.event_id for late_process in late]
            insert_notifications(connection, NotificationKind.LATE, process, late_ids, notifiers)

    ledger.write(write)


def _is_unreported() -> ColumnElement[bool]:
    return event_process.c.state.in_(UNFINISHED_STATES) & event_process.c.late_at.is_(None)
