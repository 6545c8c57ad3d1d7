"""
Each minute: start runs for accepted events without one, send reports still owed, forget what is old.

An event is accepted when the ledger has it. Whoever accepted it starts its run; if that fails, it is done
here half a minute later, many events in one run.

A report is owed when the ledger has it and RabbitMQ has not confirmed it: the broker was down, or who was to
send it was killed. While this fails, its log says why, and nothing is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import dag, task
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse, TriggerDagRun

from event_hooks import settings
from event_hooks.api import watch
from event_hooks.ledger.ledger import Ledger
from event_hooks.reports.outbox import send_owed

log = logging.getLogger(__name__)

PREFIX = "ledger__"
"""Begins the ids of the runs that are started here."""

PATIENCE = timedelta(seconds=30)  # for whoever accepted an event, to start its run
SPARE_MINUTE = 30  # of each hour, in which what is old is forgotten


@dag(
    schedule=timedelta(minutes=1),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": "event_hooks", "retries": 0},
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
                for run_id, events in not_started(ledger):
                    log.info("Starting %s with %s events", run_id, len(events))
                    deeds.callback(start, run_id, {"events": events})
        if datetime.now(UTC).minute == SPARE_MINUTE:
            count = ledger.prune(timedelta(days=settings.ledger_days()))
            log.info("%s events are forgotten", count)
        ledger.close()

    tend()


def not_started(ledger: Ledger) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Give runs that have to be started, each with its events; those without a run get one."""
    waiting = ledger.without_run(settings.max_events(), PATIENCE)
    if waiting:
        ledger.assign(f"{PREFIX}{waiting[0].id}_{len(waiting)}", [entry.id for entry in waiting])
    for prefix in (PREFIX, watch.PREFIX):
        for run_id in {entry.run_id for entry in ledger.not_begun(prefix, settings.max_events(), PATIENCE)}:
            if run_id:
                yield run_id, [entry.payload for entry in ledger.events_of(run_id)]


def start(run_id: str, conf: dict[str, Any]) -> None:
    """Start a run of process_event, unless it was started before."""
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS  # exists only in a task

    note = watch.note_of(conf["events"])
    asked = TriggerDagRun(dag_id=settings.DAG_ID, run_id=run_id, conf=conf, note=note)
    answer = SUPERVISOR_COMMS.send(asked)
    if isinstance(answer, ErrorResponse) and answer.error != ErrorType.DAGRUN_ALREADY_EXISTS:
        raise RuntimeError(f"the run {run_id} could not be started: {answer.error.value}, {answer.detail}")


tend_ledger()
