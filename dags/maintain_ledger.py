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

from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task

from event_hooks import settings
from event_hooks.maintain_ledger import maintenance


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
def maintain_ledger() -> None:
    """Build the DAG."""

    @task(execution_timeout=timedelta(minutes=10))
    def maintain() -> None:
        """Resume unfinished work; costs one query if there is none."""
        maintenance.maintain()

    maintain()


maintain_ledger()
