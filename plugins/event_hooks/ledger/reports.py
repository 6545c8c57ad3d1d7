"""Reports of the ledger: an outbox from which they are published."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from more_itertools import sliced
from sqlalchemy import Connection, select, update
from sqlalchemy.exc import OperationalError

from event_hooks import metrics
from event_hooks.ledger.database import CHUNK, Ledger, error_code, insert_missing
from event_hooks.ledger.records import PendingReport, StoredReport
from event_hooks.ledger.tables import report

_LOCKED_CODES = {"1205", "3572", "55P03"}
"""Error codes of a row that another transaction has locked: MariaDB, MySQL, PostgreSQL."""


def add_reports(ledger: Ledger, reports: Sequence[PendingReport]) -> None:
    """Note reports that have to be sent; one with a known ``message_id`` is left as it is."""
    ledger.write(lambda connection: insert_reports(connection, reports))


def publish_pending(
    ledger: Ledger,
    publish: Callable[[Sequence[PendingReport]], Iterable[PendingReport]],
    *,
    run_id: str | None = None,
    limit: int = CHUNK,
) -> int:
    """
    Publish the oldest reports that are owed, in the order in which they were written down.

    Nobody else publishes them meanwhile: while somebody does, this sends nothing. One that was
    published and could not be noted any more is owed again, with the same ``message_id``.

    :param publish: yields each report once the broker has confirmed it. What it raises is passed on,
        after those before were noted.
    :return: how many there were.
    """
    with ledger.transaction() as connection:
        try:
            rows = connection.execute(_select_pending(run_id, limit)).all()
        except OperationalError as error:
            if error_code(error) in _LOCKED_CODES:
                return 0
            raise
        if not rows:
            return 0
        ids = {row.message_id: row.id for row in rows}
        sent: list[int] = []
        failure = None
        try:
            for one in publish([_pending_report(row) for row in rows]):
                sent.append(ids[one.message_id])
        except Exception as error:
            failure = error
        for some in sliced(sent, CHUNK):
            noted = update(report).where(report.c.id.in_(some)).values(sent_at=datetime.now(UTC))
            connection.execute(noted)
    metrics.reported(row.created_at for row in rows if row.id in set(sent))
    if failure:
        raise failure
    return len(sent)


def count_pending_reports(ledger: Ledger, run_id: str | None = None) -> int:
    """Count the reports not sent yet, of a run or of all; counts no further than 10,000."""
    wanted = select(report.c.id).where(report.c.sent_at.is_(None))
    if run_id is not None:
        wanted = wanted.where(report.c.run_id == run_id)
    return len(ledger.read(wanted.limit(10_000)))


def list_run_reports(ledger: Ledger, run_id: str) -> list[StoredReport]:
    """Give a run's reports, in the order in which they are sent."""
    columns = (report.c.event_id, report.c.routing_key, report.c.body, report.c.created_at, report.c.sent_at)
    found = ledger.read(select(report.c.id, *columns).where(report.c.run_id == run_id))
    return [StoredReport(*row[1:]) for row in sorted(found, key=lambda row: row.id)]


def insert_reports(connection: Connection, reports: Sequence[PendingReport]) -> None:
    now = datetime.now(UTC)
    insert_missing(connection, report, [{**vars(one), "created_at": now} for one in reports])


def _select_pending(run_id: str | None, limit: int) -> Any:
    wanted = select(report).where(report.c.sent_at.is_(None))
    if run_id is not None:
        wanted = wanted.where(report.c.run_id == run_id)
    return wanted.order_by(report.c.id).limit(limit).with_for_update(nowait=True)


def _pending_report(row: Any) -> PendingReport:
    return PendingReport(row.message_id, row.event_id, row.run_id, row.routing_key, row.body)
