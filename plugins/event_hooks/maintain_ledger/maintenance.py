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
    from event_hooks.ledger.overview import Backlog
    from event_hooks.ledger.records import PendingReport

log = logging.getLogger(__name__)

START_GRACE = timedelta(seconds=30)
"""The API server and the collecting DAG start their own runs; this one waits so long before it does."""

PRUNE_MINUTE = 30
"""Minute of each hour in which old rows are pruned."""


def maintain() -> None:
    """Resume unfinished work; costs one query if there is none."""
    ledger = Ledger()
    if overview.has_pending_work(ledger):
        # ExitStack runs every operation even if an earlier one fails; the last error fails the task.
        with ExitStack() as operations:
            operations.callback(lambda: log.info("%s pending reports sent", send_pending(ledger)))
            operations.callback(lambda: log.info("%s follow-up events sent", send_follow_ups(ledger)))
            operations.callback(end_late, ledger)
            for run_id in not_started(ledger):
                operations.callback(start_logged, ledger, run_id)
    if metrics.are_on():
        hives = {process.hive_conn_id for process in lookups.load_cached().processes.values()}
        send_backlog_metrics(hives, overview.backlogs(ledger), overview.count_pending(ledger))
    if datetime.now(UTC).minute == PRUNE_MINUTE:
        count = prune_events(ledger, timedelta(days=settings.ledger_retention_days()))
        log.info("%s old events pruned", count)
    ledger.close()


def not_started(ledger: Ledger) -> Iterator[str]:
    """Return the runs that have to be started; events without a run are assigned to a new one."""
    waiting = list_events_without_run(ledger, settings.max_events(), START_GRACE)
    if waiting:
        run_id = f"{runs.MAINTENANCE_PREFIX}{waiting[0].id}_{len(waiting)}"
        assign_run(ledger, run_id, [entry.id for entry in waiting])
    for prefix in runs.PREFIXES:
        unplanned = list_unplanned_events(ledger, prefix, settings.max_events(), START_GRACE)
        yield from dict.fromkeys(entry.run_id for entry in unplanned if entry.run_id)


def end_late(ledger: Ledger) -> None:
    """Close joins whose time limit has passed, and start the runs of their events."""
    for run_id in joins.end_late(ledger, alert, runs.JOIN_PREFIX):
        start_logged(ledger, run_id)


def start_logged(ledger: Ledger, run_id: str) -> None:
    """Start a run, unless it was started before."""
    log.info("Run %s is started, with %s events", run_id, runs.start_run(ledger, run_id))


def alert(one: JoinWait) -> list[PendingReport]:
    """Make the reports that a process has waited for too long."""
    first = one.came[0]
    story = ReportBuilder({"events": [first.payload]}, first.run_id, first=first.position)
    report = story.join_timed_out(first.position, one.process, one.types, one.missing, one.opened_at)
    return to_pending([report], first.run_id, {first.position: first.id})


def send_backlog_metrics(hives: Iterable[str], found: Iterable[Backlog], owed: Mapping[str, int]) -> None:
    """
    Show what is not over; who asks the ledger each minute tells it.

    ``event_hooks.jobs_waiting`` and ``jobs_running`` of each hive, ``oldest_seconds`` of the oldest event
    among them.

    :param hives: all that the lookup has, for what is not there any more is 0.
    :param owed: ``{name: how many}``, as ``event_hooks.<name>``.
    """
    there = {one.hive: one for one in found}
    for hive in {*hives, *there}:
        one, now = there.get(hive), datetime.now(UTC)
        metrics.gauge("jobs_waiting", one.waiting if one else 0, hive=hive)
        metrics.gauge("jobs_running", one.running if one else 0, hive=hive)
        metrics.gauge("oldest_seconds", (now - one.oldest).total_seconds() if one else 0, hive=hive)
    for name, count in owed.items():
        metrics.gauge(name, count)
