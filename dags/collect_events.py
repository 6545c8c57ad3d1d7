"""
Submit the changes in ensembl_metadata as events: each event once, many in one run of `process_event`.

Every 15 minutes (setting `collect_schedule`) this DAG reads the events of its data interval, and of the
hours before it (setting `collect_overlap`), because an event becomes visible only when its transaction
commits. Events that were submitted before are duplicates, and skipped. So you can clear, repeat and
backfill a run, and two runs may overlap.

**After a pause or an outage** the next scheduled run also reads the events since the high-water mark: the
time up to which scheduled runs have put all events into the ledger. It reads this gap in windows of a day,
and reports each of them as a WARN. A finished window is not read again, also if the task fails or reaches
its timeout. The first scheduled run sets the mark to the start of its data interval: use a backfill, or
`start` and `end`, for earlier events. Backfills, manual runs and runs with params do not move the mark.

**Another window**: trigger the DAG by hand with `start` and `end`. With `dry_run` its log lists each
event that it would send, and each event that it skips with the reason. The same trigger afterwards
reconciles: it counts the events found, started, succeeded, failed, running and ignored. One such run
for a year takes minutes; `airflow backfill create` creates a run per interval.

**Process events again**: set `reprocess` to `failed` (the failed processes of finished events) or to
`all`, which requires `force` and a `reason`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, dag, task

from event_hooks import settings
from event_hooks.collect_events.params import PARAMS
from event_hooks.events import lookups

LOOKUPS = lookups.load_with_fallback()


@dag(
    schedule=CronDataIntervalTimetable(settings.collect_schedule(), timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=4,
    params=PARAMS,
    default_args={
        "owner": "event_hooks",
        "queue": settings.task_queue(),
        "retries": 12,
        "retry_delay": timedelta(seconds=settings.retry_delay()),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=10),
    },
    is_paused_upon_creation=True,  # a user enables it from a chosen date on
    tags=["event"],
    doc_md=__doc__,
)
def collect_events() -> None:
    """Build the DAG."""

    @task(execution_timeout=timedelta(hours=1))
    def collect(**context: Any) -> dict[str, Any]:
        """Start runs for the new events of a run's windows, and return the number of events of each kind."""
        from event_hooks.collect_events.collect import collect_window

        return collect_window(context, LOOKUPS)

    collect()


collect_events()
