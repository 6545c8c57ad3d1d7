"""The task of the DAG `maintain_ledger`: resume unfinished work, and prune old rows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from event_hooks import metrics, settings
from event_hooks.events import lookups
from event_hooks.follow_ups.send import send_follow_ups
from event_hooks.ledger import joins, overview
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import assign_run, list_events_without_run, list_unplanned_events
from event_hooks.ledger.retention import prune_events
from event_hooks.process_event import runs
from event_hooks.reports.builder import ReportBuilder
from event_hooks.reports.outbox import send_pending, to_pending

if TYPE_CHECKING:
    from event_hooks.ledger.joins import JoinWait
    from event_hooks.ledger.overview import HiveBacklog
    from event_hooks.ledger.records import PendingReport

log = logging.getLogger(__name__)

START_GRACE = timedelta(seconds=30)
"""Age from which an event's run is started here, and not by the component that accepted the event."""

PRUNE_MINUTE = 30
"""Minute of each hour in which old rows are pruned."""


def maintain() -> None:
    """Resume unfinished work; costs one query if there is no such work."""
    ledger = Ledger()
    if overview.has_pending_work(ledger):
        # ExitStack runs every operation even if an earlier one fails; the last error fails the task.
        with ExitStack() as operations:
            operations.callback(lambda: log.info("%s pending reports sent", send_pending(ledger)))
            operations.callback(lambda: log.info("%s follow-up events sent", send_follow_ups(ledger)))
            operations.callback(close_expired_joins, ledger)
            for run_id in list_runs_to_start(ledger):
                operations.callback(start_run, ledger, run_id)
    if metrics.is_enabled():
        hives = {process.hive_conn_id for process in lookups.load_cached().processes.values()}
        send_backlog_metrics(hives, overview.load_backlogs(ledger), overview.count_pending(ledger))
    if datetime.now(UTC).minute == PRUNE_MINUTE:
        count = prune_events(ledger, timedelta(days=settings.ledger_retention_days()))
        log.info("%s old events pruned", count)
    ledger.close()


def list_runs_to_start(ledger: Ledger) -> Iterator[str]:
    """Yield the ids of runs that have not planned their events; first assign events without a run."""
    events = list_events_without_run(ledger, settings.max_events(), START_GRACE)
    if events:
        run_id = f"{runs.MAINTENANCE_PREFIX}{events[0].id}_{len(events)}"
        assign_run(ledger, run_id, [event.id for event in events])
    for prefix in runs.PREFIXES:
        unplanned = list_unplanned_events(ledger, prefix, settings.max_events(), START_GRACE)
        yield from dict.fromkeys(event.run_id for event in unplanned if event.run_id)


def close_expired_joins(ledger: Ledger) -> None:
    """Close joins after their time limit, and start the runs of their events."""
    for run_id in joins.close_expired(ledger, build_timeout_reports, runs.JOIN_PREFIX):
        start_run(ledger, run_id)


def start_run(ledger: Ledger, run_id: str) -> None:
    """Start a run, and log it; do nothing if it exists."""
    log.info("Run %s is started, with %s events", run_id, runs.start_run(ledger, run_id))


def build_timeout_reports(join_wait: JoinWait) -> list[PendingReport]:
    """Return the report that a process has waited too long for events, under the first event that arrived."""
    first = join_wait.events[0]
    builder = ReportBuilder({"events": [first.payload]}, first.run_id, first_position=first.position)
    report = builder.join_timed_out(
        first.position, join_wait.process, join_wait.types, join_wait.missing, join_wait.opened_at
    )
    return to_pending([report], first.run_id, {first.position: first.id})


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
