"""Reports: an outbox in the ledger, from which they are published."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from more_itertools import sliced
from sqlalchemy import ColumnElement, Connection, Select, bindparam, delete, or_, select, update
from sqlalchemy.ext.compiler import compiles

from event_hooks import metrics
from event_hooks.exceptions import ReportRejected
from event_hooks.ledger.clock import read_time, utc_now
from event_hooks.ledger.database import (
    MAX_ROWS_PER_STATEMENT,
    Ledger,
    execute_updates,
    insert_missing,
    read_matching,
)
from event_hooks.ledger.records import PendingReport, StoredReport
from event_hooks.ledger.tables import report

RETRY_DELAY = timedelta(seconds=10)
MAX_RETRY_DELAY = timedelta(minutes=5)
"""A returned or rejected report is published again after these delays; each delay is twice the last one."""

Publish = Callable[[Sequence[PendingReport]], Iterable[PendingReport]]
"""
Publishes reports, and yields each report after the broker has confirmed it.


:raises ReportRejected: at the end, if the broker has returned or rejected the reports that it did not yield.
"""


def store_reports(ledger: Ledger, reports: Sequence[PendingReport]) -> None:
    """Store reports to publish. Idempotent: a stored report with the same ``message_id`` stays as it is."""
    ledger.write(lambda connection: insert_reports(connection, reports))


def find_reported_events(ledger: Ledger, event_ids: Sequence[int], step: str) -> set[int]:
    """Return the ids of the events that have a report of a step, sent or pending."""
    has_step = report.c.body.contains(f'"step":"{step}"', autoescape=True)
    statement = select(report.c.event_id).where(has_step)
    return {row.event_id for row in read_matching(ledger.read, statement, report.c.event_id, event_ids)}


def publish_pending(
    ledger: Ledger, publish: Publish, *, run_id: str | None = None, limit: int = MAX_ROWS_PER_STATEMENT
) -> int:
    """
    Publish the oldest pending reports, in the order in which they were stored.

    The rows are locked meanwhile. Several processes can publish at the same time: a report is skipped while
    another process has locked it or an earlier report of the same event. A report that the broker returns or
    rejects is retried after a growing delay, and later reports do not wait for it. A report whose publication
    could not be recorded stays pending, and is published again with the same ``message_id``.

    :param publish: if it raises an error, the confirmed reports are recorded, and the error is re-raised.
    :param limit: at most :data:`MAX_ROWS_PER_STATEMENT`.
    :return: the number of reports that the broker has confirmed, returned or rejected.
    """
    with ledger.transaction() as connection:
        rows = _lock_pending(connection, run_id, limit)
        if not rows:
            return 0
        sent_ids, failure = _publish_rows(rows, publish)
        sent = [row for row in rows if row.id in sent_ids]
        _record_sent(connection, sent)
        if isinstance(failure, ReportRejected):
            _postpone(connection, [row for row in rows if row.id not in sent_ids], failure.reasons)
            failure = None
    metrics.record_time_to_report(row.created_at for row in sent)
    if failure:
        raise failure
    return len(rows)


def end_retry_delays(ledger: Ledger, run_id: str) -> None:
    """Make the returned and rejected reports of a run ready to be published now."""
    delayed = _filter_pending(select(report.c.id), run_id).where(report.c.retry_at.is_not(None))
    ids = [row.id for row in ledger.read(delayed)]
    with ledger.transaction() as connection:
        for batch in sliced(ids, MAX_ROWS_PER_STATEMENT):
            connection.execute(update(report).where(report.c.id.in_(batch)).values(retry_at=None))


def has_ready_reports(ledger: Ledger) -> bool:
    """Return, by one query of an index, whether :func:`publish_pending` would publish a report now."""
    return bool(ledger.read(select_ready(report.c.id).limit(1)))


def select_ready(*columns: Any, run_id: str | None = None) -> Select[Any]:
    """
    Select the pending reports that can be published now, in the order in which they were stored.

    A report that the broker has returned or rejected cannot until its delay has ended.
    """
    is_ready = or_(report.c.retry_at.is_(None), report.c.retry_at <= utc_now())
    return _filter_pending(select(*columns).where(is_ready), run_id).order_by(stored_order())


class stored_order(ColumnElement[Any]):  # noqa: N801 (it is named like SQLAlchemy's functions)
    """
    The order of pending reports, by an index.

    With an order by the id alone, or in an EXISTS, PostgreSQL reads the whole table if its statistics are of
    a time with many pending reports. With an order by both columns, MariaDB 10.11 sorts all pending reports.
    """

    inherit_cache = True


@compiles(stored_order)
def _compile_order(element: stored_order, compiler: Any, **kwargs: Any) -> str:
    return str(compiler.process(report.c.id, **kwargs))


@compiles(stored_order, "postgresql")
def _compile_postgresql_order(element: stored_order, compiler: Any, **kwargs: Any) -> str:
    return ", ".join(compiler.process(column, **kwargs) for column in (report.c.sent_at, report.c.id))


def is_rejected() -> ColumnElement[bool]:
    """Build the condition that the broker has returned or rejected a report, and not taken it since."""
    return report.c.rejected_reason.is_not(None)


def count_pending_reports(ledger: Ledger, run_id: str | None = None) -> int:
    """Count the pending reports of a run, or of all runs, up to 10,000."""
    statement = _filter_pending(select(report.c.id), run_id)
    return len(ledger.read(statement.limit(10_000)))


def count_rejected_reports(ledger: Ledger) -> int:
    """Count the pending reports that the broker has returned or rejected, up to 10,000."""
    rejected = _filter_pending(select(report.c.id), None).where(is_rejected())
    return len(ledger.read(rejected.limit(10_000)))


def list_run_reports(ledger: Ledger, run_id: str) -> list[StoredReport]:
    """Return the reports of a run, in the order in which they are published."""
    rows = ledger.read(select(report).where(report.c.run_id == run_id))
    return [build_stored_report(row) for row in sorted(rows, key=lambda row: row.id)]


def build_stored_report(row: Any) -> StoredReport:
    """Return a report from a row with all columns of the table ``report``."""
    return StoredReport(
        row.event_id,
        row.routing_key,
        json.loads(row.body),
        row.created_at,
        row.sent_at,
        row.rejected_reason,
    )


def insert_reports(connection: Connection, reports: Sequence[PendingReport]) -> None:
    """Insert reports to publish; a stored report with the same ``message_id`` stays as it is."""
    if reports:
        now = read_time(connection)
        insert_missing(connection, report, [{**vars(pending), "created_at": now} for pending in reports])


def _lock_pending(connection: Connection, run_id: str | None, limit: int) -> list[Any]:
    """Lock the oldest reports that are ready to be published; SQLite locks no rows."""
    ready = select_ready(report, run_id=run_id)
    rows = connection.execute(ready.limit(limit).with_for_update(skip_locked=True)).all()
    locked_ids, event_ids = {row.id for row in rows}, {row.event_id for row in rows} - {None}
    if not event_ids:
        return list(rows)
    # Another process has locked the ready reports of these events that are not among the rows.
    ready_of_events = ready.with_only_columns(report.c.id, report.c.event_id).where(
        report.c.event_id.in_(event_ids), report.c.id < rows[-1].id
    )
    first_ids: dict[int, int] = {}
    for row in connection.execute(ready_of_events):
        if row.id not in locked_ids:
            first_ids.setdefault(row.event_id, row.id)
    return [row for row in rows if row.id < first_ids.get(row.event_id, row.id + 1)]


def _publish_rows(rows: Sequence[Any], publish: Publish) -> tuple[set[int], Exception | None]:
    """Publish reports; return the ids of the confirmed reports, and the error that ended the publication."""
    ids = {row.message_id: row.id for row in rows}
    sent_ids: set[int] = set()
    try:
        for pending in publish([_to_pending_report(row) for row in rows]):
            sent_ids.add(ids[pending.message_id])
    except Exception as error:
        return sent_ids, error
    return sent_ids, None


def _record_sent(connection: Connection, rows: Sequence[Any]) -> None:
    transient_ids = [row.id for row in rows if row.is_transient]
    other_ids = [row.id for row in rows if not row.is_transient]
    values = {"sent_at": utc_now(), "rejected_reason": None}
    connection.execute(delete(report).where(report.c.id.in_(transient_ids)))
    connection.execute(update(report).where(report.c.id.in_(other_ids)).values(values))


def _postpone(connection: Connection, rows: Sequence[Any], reasons: Mapping[str, str]) -> None:
    """Retry returned or rejected reports later."""
    now = read_time(connection)
    values = [
        {
            "id_": row.id,
            "attempts": row.attempts + 1,
            "retry_at": now + min(RETRY_DELAY * 2 ** min(row.attempts, 10), MAX_RETRY_DELAY),
            "rejected_reason": reasons.get(row.message_id),
        }
        for row in rows
    ]
    execute_updates(connection, update(report).where(report.c.id == bindparam("id_")), values)


def _filter_pending(statement: Select[Any], run_id: str | None) -> Select[Any]:
    statement = statement.where(report.c.sent_at.is_(None))
    return statement if run_id is None else statement.where(report.c.run_id == run_id)


def _to_pending_report(row: Any) -> PendingReport:
    return PendingReport(
        row.message_id, row.event_id, row.run_id, row.routing_key, row.body, row.is_transient
    )
