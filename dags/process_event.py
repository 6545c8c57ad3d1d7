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

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import TaskGroup, dag, task

from event_hooks import failure_mail, lateness, lookups, reason, routing, settings, starting
from event_hooks.event_jobs import EventJobSensor, EventSubmitOperator
from event_hooks.ledger import intake, joins
from event_hooks.ledger.ledger import Ledger
from event_hooks.reports import outbox
from event_hooks.reports.operator import ReportOperator
from event_hooks.reports.story import Story

log = logging.getLogger(__name__)

LOOKUPS = lookups.load_last_good()

PATIENT = {
    "retry_delay": timedelta(seconds=settings.retry_delay()),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=10),
}
HIVE_RETRIES = 12  # over an hour
REPORT_RETRIES = 300  # over two days: a broker that is down delays a report and loses none


@dag(
    dag_id=settings.DAG_ID,
    schedule=None,
    params=LOOKUPS.params(),
    default_args={"owner": "event_hooks", "queue": settings.task_queue(), "retries": HIVE_RETRIES, **PATIENT},
    max_active_runs=10_000,  # a waiting run costs nothing, and must not hold up the next event
    is_paused_upon_creation=False,
    tags=["event"],
    on_failure_callback=failure_mail.on_failure(),
    deadline=lateness.deadlines(LOOKUPS.processes.values()),
    doc_md=__doc__,
)
def process_event() -> None:
    """Make the DAG: one task group per process of the lookup."""

    @task.branch(doc_md="Check the events, write them down, and pick the processes that react to them.")
    def route(**context: Any) -> list[str]:
        """Check the run's events, and give the submit task of each process that reacts to one of them."""
        ti = context["ti"]
        run = context["dag_run"]
        with reason.left_behind(ti):
            ledger = Ledger()
            planned = routing.plan(run.conf, LOOKUPS, ledger.planned(run.run_id))
            known = intake.record(ledger, run.conf, run.run_id, run.run_type.value)
            plan = routing.without(planned, known)
            mine = [entry for entry in ledger.events_of(run.run_id) if entry.position not in known]
            for joined in joins.note(ledger, mine, LOOKUPS.reactions.joins):
                log.info("All that a process waits for has come: %s", joined)
                starting.start(ledger, joined)
            story = Story(run.conf, run.run_id)
            claims = routing.claims(story.events, plan, LOOKUPS)
            plan = outbox.receive(ledger, story, plan, known, LOOKUPS.processes, claims)
        ledger.close()
        for position, first in known.items():
            log.warning("Event %s is not done again: run %s has it", position, first)
        ti.xcom_push("plan", plan)
        for process, positions in plan.items():
            ti.xcom_push(process, positions)
        return [routing.submit_task(process) for process in plan]

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
                ready_limit=process.ready_limit or settings.ready_limit(),
                timeout=process.job_timeout or settings.job_timeout(),
                retries=0,
            )
        routed >> submit >> wait >> report


def _pulled(task_id: str, key: str) -> str:
    """Make a template of an XCom for the triggerer, which hangs without map_indexes (Airflow 3.3.2)."""
    return f"{{{{ ti.xcom_pull(task_ids={task_id!r}, key={key!r}, map_indexes=-1) }}}}"


process_event()
