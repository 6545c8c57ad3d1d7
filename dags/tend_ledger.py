"""
Send the reports that are still owed, each minute, and forget what is old.

A report is owed when the ledger has it and RabbitMQ has not confirmed it: the broker was down, or who was to
send it was killed. While this fails, its log says why, and nothing is lost.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task

from event_hooks import settings
from event_hooks.ledger.ledger import Ledger
from event_hooks.reports.operator import send_owed

log = logging.getLogger(__name__)

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
        """Do what is left to do; if there is nothing, that costs one query."""
        ledger = Ledger()
        log.info("%s reports that were owed are sent", send_owed(ledger))
        if datetime.now(UTC).minute == SPARE_MINUTE:
            count = ledger.prune(timedelta(days=settings.ledger_days()))
            log.info("%s events are forgotten", count)
        ledger.close()

    tend()


tend_ledger()
