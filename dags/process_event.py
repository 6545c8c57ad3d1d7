"""
Submit jobs to hives for an event, wait for them, and report the outcome of each.

The run's `conf` is the event, for example `{"type": "new_assembly", "genome": "homo_sapiens", "event_id":
"42"}`, or a batch of events: `{"events": [{…}, {…}]}`.

- `route` validates the event, stores it in the ledger, and selects the processes that react to its type; the
  other processes are skipped. A duplicate (same type and `event_id`) is not processed again.
- `<process>.submit` submits one job per event, to the hive of the event's plan. A retry finds the same jobs.
- `<process>.wait` waits for these jobs and all their descendants. It is deferred and uses no worker slot. The
  triggerer also sends the follow-up events of a success.
- `report` always runs. It stores missing outcomes, and ends when RabbitMQ has confirmed all reports. It also
  sends notifications. It fails if something in the run failed, and its log lists what.

**If a `wait` failed**, its log shows the error message of the failed job. Fix the cause, then clear the
`wait` with *Downstream*: the failed jobs run again, and the task waits for them. **To stop** jobs that
have not started, mark the `wait`, or the run, as failed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import TaskGroup, dag, task

from event_hooks import settings
from event_hooks.events import lookups
from event_hooks.process_event.assets import build_assets
from event_hooks.process_event.params import build_params
from event_hooks.process_event.report import ReportOperator
from event_hooks.process_event.route import route_events
from event_hooks.process_event.submit import EventSubmitOperator
from event_hooks.process_event.wait import EventJobSensor

LOOKUPS = lookups.load_with_fallback()

RETRIES: dict[str, Any] = {
    "retry_delay": timedelta(seconds=settings.retry_delay()),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=10),
}
HIVE_RETRIES = 12  # over an hour
REPORT_RETRIES = 300  # over two days: while RabbitMQ is unavailable, reports stay pending


@dag(
    dag_id=settings.DAG_ID,
    schedule=None,
    default_args={"owner": "event_hooks", "queue": settings.task_queue()},
    max_active_runs=10_000,  # a waiting run uses no slot, and must not delay the next event
    is_paused_upon_creation=False,
    tags=["event"],
    doc_md=__doc__,
)
def process_event() -> None:
    """Build the DAG: one task group per process of the lookup."""

    @task.branch(
        doc_md="Accept the events, and select the processes that react to them.",
        retries=HIVE_RETRIES,
        **RETRIES,
    )
    def route(**context: Any) -> list[str]:
        """Accept the run's events, and return the submit task of each process that reacts to one of them."""
        return route_events(context, LOOKUPS)

    routed = route()
    report = ReportOperator(
        task_id="report",
        emits=LOOKUPS.emits,
        doc_md="Store missing outcomes, and send all reports to RabbitMQ. It runs even after a failure.",
        retries=REPORT_RETRIES,
        **RETRIES,
    ).as_teardown(on_failure_fail_dagrun=True)
    assets = build_assets(LOOKUPS)
    for process in LOOKUPS.processes.values():
        with TaskGroup(process.name):
            submit = EventSubmitOperator(
                task_id="submit",
                process=process.name,
                guihive=process.guihive,
                pool=process.pool,
                doc_md=f"Submit jobs of `{process.analysis}` to `{process.hive_conn_id}`, one per event.",
                retries=HIVE_RETRIES,
                **RETRIES,
            )
            wait = EventJobSensor(
                task_id="wait",
                process=process.name,
                emits=process.emits,
                guihive=process.guihive,
                doc_md="Wait for the jobs and their descendants. **If it failed**, fix the cause, then clear"
                " it with *Downstream*.",
                ready_timeout=process.ready_timeout or settings.ready_timeout(),
                timeout=process.job_timeout or settings.job_timeout(),
                retries=0,
                **assets[process.name],
            )
        routed >> submit >> wait >> report


# Airflow copies the params of a DAG into each task that is created after them. A thousand copies of the list
# of types are several megabytes; a task without params uses those of its DAG.
process_event().params = build_params(LOOKUPS)
