"""Reports: an outbox in the ledger, from which they are published."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from more_itertools import sliced
from sqlalchemy import Connection, Select, select, update
from sqlalchemy.exc import OperationalError

from event_hooks import metrics
from event_hooks.ledger.database import MAX_ROWS_PER_STATEMENT, Ledger, error_code, insert_missing
from event_hooks.ledger.records import PendingReport, StoredReport
from event_hooks.ledger.tables import report

_LOCKED_CODES = {"1205", "3572", "55P03"}
"""Error codes for a row that another transaction has locked: MariaDB, MySQL, PostgreSQL."""

Publish = Callable[[Sequence[PendingReport]], Iterable[PendingReport]]
"""Publishes reports, and yields each report after the broker has confirmed it."""


def store_reports(ledger: Ledger, reports: Sequence[PendingReport]) -> None:
    """Store reports to publish. Idempotent: a stored report with the same ``message_id`` stays as it is."""
    ledger.write(lambda connection: insert_reports(connection, reports))


def publish_pending(
    ledger: Ledger, publish: Publish, *, run_id: str | None = None, limit: int = MAX_ROWS_PER_STATEMENT
) -> int:
    """
    Publish the oldest pending reports, in the order in which they were stored.

    The rows are locked meanwhile: if another process is publishing, this function publishes no report. A
    report whose publication could not be recorded stays pending, and is published again with the same
    ``message_id``.

    :param publish: if it raises an error, the confirmed reports are recorded, and the error is re-raised.
    :return: the number of published reports.
    """
    with ledger.transaction() as connection:
        rows = _lock_pending(connection, run_id, limit)
        if not rows:
            return 0
        sent_ids, failure = _publish_rows(rows, publish)
        for batch in sliced(sent_ids, MAX_ROWS_PER_STATEMENT):
            statement = update(report).where(report.c.id.in_(batch)).values(sent_at=datetime.now(UTC))
            connection.execute(statement)
    metrics.record_time_to_report(row.created_at for row in rows if row.id in set(sent_ids))
    if failure:
        raise failure
    return len(sent_ids)


def count_pending_reports(ledger: Ledger, run_id: str | None = None) -> int:
    """Count the pending reports of a run, or of all runs, up to 10,000."""
    statement = _filter_pending(select(report.c.id), run_id)
    return len(ledger.read(statement.limit(10_000)))


def list_run_reports(ledger: Ledger, run_id: str) -> list[StoredReport]:
    """Return the reports of a run, in the order in which they are published."""
    columns = (report.c.event_id, report.c.routing_key, report.c.body, report.c.created_at, report.c.sent_at)
    rows = ledger.read(select(report.c.id, *columns).where(report.c.run_id == run_id))
    return [
        StoredReport(row.event_id, row.routing_key, json.loads(row.body), row.created_at, row.sent_at)
        for row in sorted(rows, key=lambda row: row.id)
    ]


def insert_reports(connection: Connection, reports: Sequence[PendingReport]) -> None:
    """Insert reports to publish; a stored report with the same ``message_id`` stays as it is."""
    now = datetime.now(UTC)
    insert_missing(connection, report, [{**vars(pending), "created_at": now} for pending in reports])


def _lock_pending(connection: Connection, run_id: str | None, limit: int) -> Sequence[Any]:
    """Return the oldest pending reports; an empty list if another transaction has locked them."""
    statement = _filter_pending(select(report), run_id).order_by(report.c.id).limit(limit)
    try:
        return connection.execute(statement.with_for_update(nowait=True)).all()
    except OperationalError as error:
        if error_code(error) in _LOCKED_CODES:
            return []
        raise


def _publish_rows(rows: Sequence[Any], publish: Publish) -> tuple[list[int], Exception | None]:
    """Publish reports; return the ids of the confirmed reports, and the error that ended the publication."""
    ids = {row.message_id: row.id for row in rows}
    sent_ids: list[int] = []
    try:
        for pending in publish([_to_pending_report(row) for row in rows]):
            sent_ids.append(ids[pending.message_id])
    except Exception as error:
        return sent_ids, error
    return sent_ids, None


def _filter_pending(statement: Select[Any], run_id: str | None) -> Select[Any]:
    statement = statement.where(report.c.sent_at.is_(None))
    return statement if run_id is None else statement.where(report.c.run_id == run_id)


def _to_pending_report(row: Any) -> PendingReport:
    return PendingReport(row.message_id, row.event_id, row.run_id, row.routing_key, row.body)
