"""
Resume unfinished work: start runs, send reports and follow-up events, and prune old events.

It runs every five minutes. While there is unfinished work, the API server requests a run about each minute;
the id of such a run begins with `pending__`.

An event is accepted when the ledger has stored it. The component that accepted it starts its run. If that
fails, this DAG starts the run about a minute later. It also starts a run again that a user has deleted while
its jobs run, records processes that no task will finish, and finishes stops that were interrupted.

A process that waits for several events has a time limit. When it has passed, the process runs with the
events that arrived, or a report is sent, as the event lookup says.

A process that is not finished at its deadline, as the process lookup says, is reported as late.

A report is pending while the ledger has it and RabbitMQ has not confirmed it, for example because the
broker was unavailable or the sender was killed. A follow-up event is pending in the same way until the
event server has accepted it. While sending fails, the log of this DAG shows the reason, and reports and
events stay in the ledger.

A notification on a process that failed, stalled or is late is pending until its notifier has sent it. This
DAG sends those that no task `report` has sent. If a notifier fails, this task fails with the reason, and a
later run retries.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import dag, task

from event_hooks import settings
from event_hooks.maintain_ledger import maintenance


@dag(
    schedule=timedelta(minutes=5),
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
    def maintain(**context: Any) -> None:
        """Resume unfinished work; costs a few queries if there is no such work."""
        maintenance.maintain(context)

    maintain()


maintain_ledger()
