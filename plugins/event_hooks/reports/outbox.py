"""Owe reports together with what they tell of, and send what is owed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from event_hooks import settings
from event_hooks.exceptions import ReportNotPublished
from event_hooks.ledger.records import PendingReport
from event_hooks.ledger.reports import count_pending_reports, publish_pending
from event_hooks.reports.hook import RabbitMQHook
from event_hooks.reports.report import Report, is_at_least

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger


def to_pending(reports: Iterable[Report], run_id: str, ids: Mapping[int, int]) -> list[PendingReport]:
    """
    Make of reports what the ledger keeps, without those below the ``report_level``.

    :param ids: ``{position: event id}``.
    """
    level = settings.report_level()
    return [
        PendingReport(
            report.message_id,
            None if report.position is None else ids.get(report.position),
            run_id,
            report.routing_key,
            report.body,
        )
        for report in reports
        if is_at_least(report.report_type, level)
    ]


def send_pending(ledger: Ledger, hook: RabbitMQHook | None = None, *, run_id: str | None = None) -> int:
    """
    Publish the reports that are owed, of one run or of all, and count them.

    :raises ReportNotPublished: the first that the broker did not take, and all after it, are still owed.
    """
    publish = partial((hook or RabbitMQHook()).publish, exchange=settings.report_exchange())
    count = 0
    while sent := publish_pending(ledger, publish, run_id=run_id):
        count += sent
    return count


def send_pending_of_run(ledger: Ledger, run_id: str) -> int:
    """
    Publish the reports that are owed of a run, and wait for those that somebody else is publishing.

    :raises ReportNotPublished: if some are owed still.
    """
    count, until = 0, time.monotonic() + settings.report_timeout()
    while True:
        count += send_pending(ledger, run_id=run_id)
        if not (left := count_pending_reports(ledger, run_id)):
            return count
        if time.monotonic() > until:
            raise ReportNotPublished(f"{left} reports of this run are owed, and somebody else is sending")
        time.sleep(0.2)
