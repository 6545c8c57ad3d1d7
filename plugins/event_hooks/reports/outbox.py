"""The outbox: reports that the ledger stores in the transaction they report on, until the broker has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from event_hooks import settings
from event_hooks.exceptions import ReportNotPublished, ReportRejected
from event_hooks.ledger.records import PendingReport
from event_hooks.ledger.reports import count_pending_reports, end_retry_delays, publish_pending
from event_hooks.reports.hook import RabbitMQHook
from event_hooks.reports.report import Report, is_at_least
from event_hooks.reports.shortening import shorten_body

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger

POLL_SECONDS = 0.2
"""Pause while another process publishes reports of the same run."""


def to_pending(reports: Iterable[Report], run_id: str) -> list[PendingReport]:
    """
    Return reports in the form that the ledger stores, without those below the setting ``report_level``.

    Reports with more bytes than the setting ``report_max_bytes`` are shortened.
    """
    level, max_bytes = settings.report_level(), settings.report_max_bytes()
    return [
        PendingReport(
            report.message_id,
            report.event_id,
            run_id,
            report.routing_key,
            shorten_body(report.body, max_bytes),
            report.is_transient,
        )
        for report in reports
        if is_at_least(report.report_type, level)
    ]


class _Sender:
    """Publish reports with a hook, in several calls; remember the first error of a rejected report."""

    def __init__(self, hook: RabbitMQHook) -> None:
        self._hook = hook
        self.count = 0
        self.rejection: ReportRejected | None = None

    def publish(self, reports: Sequence[PendingReport]) -> Iterator[PendingReport]:
        try:
            for report in self._hook.publish(reports, settings.report_exchange()):
                self.count += 1
                yield report
        except ReportRejected as error:
            self.rejection = self.rejection or error
            raise


def send_pending(
    ledger: Ledger, hook: RabbitMQHook | None = None, *, run_id: str | None = None, limit: int | None = None
) -> int:
    """
    Publish the pending reports of one run, or of all runs.

    For all runs, a report that the broker has returned or rejected is retried only after a delay.

    :param limit: publish at most so many reports, in one transaction; default: all of them.
    :return: number of reports that this call has published.
    :raises ReportRejected: the broker returned or rejected reports of this call; all others were published.
    :raises ReportNotPublished: the broker did not confirm a report; this report and all later ones are still
        pending.
    """
    if run_id is not None:
        end_retry_delays(ledger, run_id)
    sender = _Sender(hook or RabbitMQHook())
    if limit is not None:
        publish_pending(ledger, sender.publish, run_id=run_id, limit=limit)
    else:
        while publish_pending(ledger, sender.publish, run_id=run_id):
            pass
    if sender.rejection:
        raise sender.rejection
    return sender.count


def send_pending_of_run(ledger: Ledger, run_id: str) -> int:
    """
    Publish the pending reports of a run, and wait for those that another process is publishing.

    :return: number of reports that this call has published.
    :raises ReportNotPublished: some reports are still pending after the setting ``report_timeout``; at once
        if the broker returned or rejected some.
    """
    count = 0

    def send_and_count_pending() -> int:
        nonlocal count
        count += send_pending(ledger, run_id=run_id)
        return count_pending_reports(ledger, run_id)

    retrying = Retrying(
        retry=retry_if_result(bool),
        stop=stop_after_delay(settings.report_timeout()),
        wait=wait_fixed(POLL_SECONDS),
    )
    try:
        retrying(send_and_count_pending)
    except RetryError as error:
        pending = error.last_attempt.result()
        raise ReportNotPublished(
            f"{pending} reports of this run are pending, and another process is publishing them"
        ) from None
    return count
