"""The task of the DAG `maintain_ledger`: resume unfinished work, and prune old rows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from event_hooks import metrics, settings
from event_hooks.events import lookups
from event_hooks.follow_ups.send import send_follow_ups
from event_hooks.ledger import joins, overview
from event_hooks.ledger.clock import load_time
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.marks import load_or_create_mark, move_mark
from event_hooks.ledger.records import RunEvents, StoredEvent
from event_hooks.ledger.retention import prune_events
from event_hooks.maintain_ledger.resumption import resume_runs
from event_hooks.notifications.send import send_notifications
from event_hooks.process_event import runs
from event_hooks.process_event.deadlines import report_late_processes
from event_hooks.reports.builder import ReportBuilder
from event_hooks.reports.outbox import send_pending, to_pending

if TYPE_CHECKING:
    from airflow.sdk import Context

    from event_hooks.ledger.joins import JoinWait
    from event_hooks.ledger.records import PendingReport
    from event_hooks.ledger.views import HiveBacklog

log = logging.getLogger(__name__)

PRUNE_INTERVAL = timedelta(hours=1)
"""Time from one pruning of old rows to the next; the ledger has the time of the last one."""

PRUNE_MARK = "prune"


def maintain(context: Context) -> None:
    """
    Resume unfinished work, and report late processes; costs a few queries if there is no such work.

    :param context: of the present task.
    """
    ledger = Ledger()
    # ExitStack runs every operation, the last one first, even if an earlier one fails. The last error fails
    # the task.
    with ExitStack() as operations:
        operations.callback(ledger.close)
        # Last, because a notifier may take minutes.
        operations.callback(send_notifications, ledger, context)
        operations.callback(prune_hourly, ledger)
        operations.callback(send_metrics, ledger)
        operations.callback(resume_runs, ledger, context["ti"])
        operations.callback(send_pending_work, ledger)
        operations.callback(lambda: report_late_processes(ledger, lookups.load_cached().processes.values()))


def prune_hourly(ledger: Ledger) -> None:
    """Prune old rows, unless that was done within :data:`PRUNE_INTERVAL`."""
    now = load_time(ledger)
    last = load_or_create_mark(ledger, PRUNE_MARK, now - PRUNE_INTERVAL)
    if timedelta(0) <= now - last < PRUNE_INTERVAL:
        return
    log.info("%s old events pruned", prune_events(ledger, timedelta(days=settings.ledger_retention_days())))
    with ledger.transaction() as connection:
        move_mark(connection, PRUNE_MARK, now)


def send_metrics(ledger: Ledger) -> None:
    """Set the gauges of unfinished work, if Airflow has a metrics backend."""
    if metrics.is_enabled():
        hives = {process.hive_conn_id for process in lookups.load_cached().processes.values()}
        send_backlog_metrics(hives, overview.load_backlogs(ledger), overview.count_pending(ledger))


def send_pending_work(ledger: Ledger) -> None:
    """Close expired joins, and send pending reports and follow-up events."""
    if not overview.has_pending_work(ledger):
        return
    with ExitStack() as operations:
        operations.callback(lambda: log.info("%s pending reports sent", send_pending(ledger)))
        operations.callback(lambda: log.info("%s follow-up events sent", send_follow_ups(ledger)))
        operations.callback(close_expired_joins, ledger)


def close_expired_joins(ledger: Ledger) -> None:
    """Close joins after their time limit, and start the runs of their events."""
    for run_id in joins.close_expired(ledger, build_timeout_reports, runs.JOIN_PREFIX):
        log.info("Run %s is started, with %s events", run_id, runs.start_run(ledger, run_id))


def build_timeout_reports(join_wait: JoinWait) -> list[PendingReport]:
    """Return the report that a process has waited too long for events, under the first event that arrived."""
    first = join_wait.events[0]
    stored = StoredEvent(first.id, first.payload, first.run_id, first.position)
    builder = ReportBuilder(RunEvents.from_stored(first.run_id, [stored]))
    report = builder.join_timed_out(
        first.position, join_wait.process, join_wait.types, join_wait.missing, join_wait.opened_at
    )
    return to_pending([report], first.run_id)


def send_backlog_metrics(
    hives: Iterable[str], backlogs: Iterable[HiveBacklog], counts: Mapping[str, int]
) -> None:
    """
    Set the gauges of unfinished work.

    For each hive: ``event_hooks.jobs_waiting``, ``jobs_running``, and ``oldest_seconds``, the age of its
    oldest unfinished event.

    :param hives: all hives of the lookup: the gauges of a hive without unfinished work are 0.
    :param counts: ``{name: count}``, for gauges ``event_hooks.<name>``.
    """
    now, backlog_by_hive = datetime.now(UTC), {backlog.hive: backlog for backlog in backlogs}
    for hive in {*hives, *backlog_by_hive}:
        backlog = backlog_by_hive.get(hive)
        age = (now - backlog.oldest).total_seconds() if backlog else 0
        metrics.set_gauge("jobs_waiting", backlog.waiting if backlog else 0, hive=hive)
        metrics.set_gauge("jobs_running", backlog.running if backlog else 0, hive=hive)
        metrics.set_gauge("oldest_seconds", age, hive=hive)
    for name, count in counts.items():
        metrics.set_gauge(name, count)
