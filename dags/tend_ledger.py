"""
Each minute: start runs for accepted events without one, hand on and report what is owed, forget what is old.

An event is accepted when the ledger has it. Whoever accepted it starts its run; if that fails, it is done
here half a minute later, many events in one run.

A process that waits for several events does so for a limited time. When that is over, it runs with what came,
or people are told, as the event lookup says.

A report is owed when the ledger has it and RabbitMQ has not confirmed it: the broker was down, or who was to
send it was killed. An event that follows from another one is owed to the event server in the same way. While
this fails, its log says why, and nothing is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task

from event_hooks import collecting, lookups, metrics, settings, starting
from event_hooks.api import watch
from event_hooks.handing_on import hand_on
from event_hooks.ledger import joins, overview
from event_hooks.ledger.ledger import Ledger
from event_hooks.reports.outbox import alert, send_owed

log = logging.getLogger(__name__)

PREFIX = "ledger__"
"""Begins the ids of the runs that are made here."""

PREFIXES = (PREFIX, watch.PREFIX, joins.PREFIX, collecting.PREFIX)
"""Begin the ids of the runs that have to be started here if nobody else has."""

PATIENCE = timedelta(seconds=30)  # for whoever accepted an event, to start its run
SPARE_MINUTE = 30  # of each hour, in which what is old is forgotten


@dag(
    schedule=timedelta(minutes=1),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": "event_hooks", "queue": settings.task_queue(), "retries": 0},
    is_paused_upon_creation=False,
    tags=["event"],
    doc_md=__doc__,
)
def tend_ledger() -> None:
    """Make the DAG."""

    @task(execution_timeout=timedelta(minutes=10))
    def tend() -> None:
        """Do what is left to do; to find that there is nothing costs one query."""
        ledger = Ledger()
        if ledger.has_work():
            # Each whatever becomes of the others; the last error is the task's
            with ExitStack() as deeds:
                deeds.callback(lambda: log.info("%s reports that were owed are sent", send_owed(ledger)))
                deeds.callback(lambda: log.info("%s events that follow are handed on", hand_on(ledger)))
                deeds.callback(end_late, ledger)
                for run_id in not_started(ledger):
                    deeds.callback(start_logged, ledger, run_id)
        if metrics.are_on():
            hives = {one.hive_conn_id for one in lookups.current().processes.values()}
            metrics.backlog(hives, overview.backlogs(ledger), overview.left_to_do(ledger))
        if datetime.now(UTC).minute == SPARE_MINUTE:
            count = ledger.prune(timedelta(days=settings.ledger_days()))
            log.info("%s events are forgotten", count)
        ledger.close()

    tend()


def not_started(ledger: Ledger) -> Iterator[str]:
    """Give runs that have to be started; events without a run get one."""
    waiting = ledger.without_run(settings.max_events(), PATIENCE)
    if waiting:
        ledger.assign(f"{PREFIX}{waiting[0].id}_{len(waiting)}", [entry.id for entry in waiting])
    for prefix in PREFIXES:
        begun = ledger.not_begun(prefix, settings.max_events(), PATIENCE)
        yield from dict.fromkeys(entry.run_id for entry in begun if entry.run_id)


def end_late(ledger: Ledger) -> None:
    """End what has waited for several events for too long."""
    for run_id in joins.end_late(ledger, alert):
        start_logged(ledger, run_id)


def start_logged(ledger: Ledger, run_id: str) -> None:
    """Start a run, unless it was started before."""
    log.info("Run %s is started, with %s events", run_id, starting.start(ledger, run_id))


tend_ledger()
