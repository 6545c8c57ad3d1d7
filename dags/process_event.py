"""
Run the hive jobs that an event asks for, and report how each ended.

The run's `conf` is the event, as in `{"type": "new_assembly", "genome": "homo_sapiens", "event_id": "42"}`,
or a batch of them: `{"events": [{…}, {…}]}`.

- `route` checks the event, writes it into the ledger, and picks the processes that react to its type; the
  others are skipped. An event that is known (its type and `event_id`) is not done again.
- `<process>.submit` puts one job per event into the process's hive; again, it finds the same jobs.
- `<process>.wait` waits for these jobs and all that grows from them, without a worker. The events that follow
  from a success are handed on from there.
- `report` sees that each has an outcome and RabbitMQ has all reports, whatever happened.

**If a `wait` failed**, its log shows the message of the job that failed. Mend the cause, then clear the
`wait` with *Downstream*: the jobs that failed run again, and are waited for. **To stop** what has not
begun, mark the `wait`, or the run, as failed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import TaskGroup, dag, task

from event_hooks import settings
from event_hooks.events import lookups
from event_hooks.process_event import deadlines, failure_mail
from event_hooks.process_event.params import build_params
from event_hooks.process_event.report import ReportOperator
from event_hooks.process_event.route import route_events
from event_hooks.process_event.submit import EventSubmitOperator
from event_hooks.process_event.wait import EventJobSensor

LOOKUPS = lookups.load_with_fallback()

RETRIES = {
    "retry_delay": timedelta(seconds=settings.retry_delay()),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=10),
}
HIVE_RETRIES = 12  # over an hour
REPORT_RETRIES = 300  # over two days: while RabbitMQ is unavailable, reports stay pending


@dag(
    dag_id=settings.DAG_ID,
    schedule=None,
    params=build_params(LOOKUPS),
    default_args={"owner": "event_hooks", "queue": settings.task_queue(), "retries": HIVE_RETRIES, **RETRIES},
    max_active_runs=10_000,  # a waiting run uses no slot, and must not delay the next event
    is_paused_upon_creation=False,
    tags=["event"],
    on_failure_callback=failure_mail.on_failure(),
    deadline=deadlines.deadlines(LOOKUPS.processes.values()),
    doc_md=__doc__,
)
def process_event() -> None:
    """Build the DAG: one task group per process of the lookup."""

    @task.branch(doc_md="Accept the events, and select the processes that react to them.")
    def route(**context: Any) -> list[str]:
        """Accept the run's events, and return the submit task of each process that reacts to one of them."""
        return route_events(context, LOOKUPS)

    routed = route()
    report = ReportOperator(
        task_id="report",
        plan=("route", "plan"),
        emits=LOOKUPS.emits,
        doc_md="See that each event has an outcome, and RabbitMQ all reports; whatever happened before.",
        retries=REPORT_RETRIES,
    ).as_teardown()
    for process in LOOKUPS.processes.values():
        with TaskGroup(process.name):
            submit = EventSubmitOperator(
                task_id="submit",
                process=process.name,
                hive_conn_id=process.hive_conn_id,
                analysis=process.analysis,
                positions=routed[process.name],
                guihive=process.guihive,
                pool=process.pool,
                doc_md=f"Put a job of `{process.analysis}` into `{process.hive_conn_id}` for each event."
                " Again, it finds the same jobs.",
            )
            wait = EventJobSensor(
                task_id="wait",
                process=process.name,
                hive_conn_id=process.hive_conn_id,
                job_ids=_pulled(f"{process.name}.submit", "return_value"),
                positions=_pulled("route", process.name),
                emits=process.emits,
                guihive=process.guihive,
                doc_md="Wait, without a worker, until the jobs and all that grows from them are over. The log"
                " shows the message of a job that failed. Mend the cause, then clear this with *Downstream*.",
                ready_timeout=process.ready_timeout or settings.ready_timeout(),
                timeout=process.job_timeout or settings.job_timeout(),
                retries=0,
            )
        routed >> submit >> wait >> report


def _pulled(task_id: str, key: str) -> str:
    """Make a template of an XCom for the triggerer, which hangs without map_indexes (Airflow 3.3.2)."""
    return f"{{{{ ti.xcom_pull(task_ids={task_id!r}, key={key!r}, map_indexes=-1) }}}}"


process_event()
