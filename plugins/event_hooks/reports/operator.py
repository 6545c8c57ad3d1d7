"""Report how each process of a run ended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from event_hooks import reason, settings
from event_hooks.events import EventBatch
from event_hooks.exceptions import EventInvalid
from event_hooks.reports.hook import RabbitMQHook
from event_hooks.reports.report import Report, ReportType

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

PROCESS = "event_processing"
"""``process`` of the reports that a run makes. Source: the Flask app's Celery task."""


@dataclass(frozen=True)
class Ended:
    """How the two tasks of one process ended."""

    positions: Sequence[int]
    """Which of the run's events it was for."""

    submit_error: str | None
    job_ids: Sequence[int] | None
    outcomes: Sequence[Mapping[str, Any]] | None
    """``{"job_id", "state", "result", "error"}`` of each job, in the order of ``positions``."""

    wait_state: str | None
    """Airflow's state of the wait, as in success, failed, upstream_failed."""


class ReportOperator(BaseOperator):
    """
    Publish one report for each process and event of the run; make it a teardown, so that it always runs.

    A retry is harmless: a repeated report has the same ``message_id``.

    :param route_task_id: the task whose XComs ``<process>`` are the positions of the events it was for.
    :param processes: names of the task groups, each with the tasks ``submit`` and ``wait``.
    """

    def __init__(self, *, route_task_id: str, processes: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.route_task_id = route_task_id
        self.processes = processes

    def execute(self, context: Context) -> None:
        """Publish what the run has come to."""
        run = context["dag_run"]
        ended = self._ended(context)
        reports = list(reports_of(run.conf, run.run_id, ended, self._route_error(context)))
        RabbitMQHook().publish(reports, settings.report_exchange())
        for report in reports:
            self.log.info("Reported %s for %s: %s", report.routing_key, report.resource, report.message)

    def _ended(self, context: Context) -> dict[str, Ended]:
        ti, run = context["ti"], context["dag_run"]
        states = ti.get_task_states(dag_id=run.dag_id, run_ids=[run.run_id]).get(run.run_id, {})
        ended = {}
        for process in self.processes:
            submit, wait = f"{process}.submit", f"{process}.wait"
            positions = ti.xcom_pull(task_ids=self.route_task_id, key=process)
            if positions is not None:
                ended[process] = Ended(
                    positions=positions,
                    submit_error=ti.xcom_pull(task_ids=submit, key=reason.XCOM),
                    job_ids=ti.xcom_pull(task_ids=submit),
                    outcomes=_decoded(ti.xcom_pull(task_ids=wait)),
                    wait_state=states.get(wait),
                )
        return ended

    def _route_error(self, context: Context) -> str | None:
        """Give why the run's events could not be routed, None if they were."""
        ti, run = context["ti"], context["dag_run"]
        states = ti.get_task_states(dag_id=run.dag_id, run_ids=[run.run_id]).get(run.run_id, {})
        if states.get(self.route_task_id) == "success":
            return None
        error = ti.xcom_pull(task_ids=self.route_task_id, key=reason.XCOM)
        return error or f"the task {self.route_task_id} ended without success: its log tells why"


def reports_of(
    conf: object, run_id: str, ended: Mapping[str, Ended], route_error: str | None
) -> Iterator[Report]:
    """
    Give the reports of a run that is over.

    Only outcomes read from the hive make a report of success: that a task is green, say because a person
    marked it, does not.
    """
    try:
        events = [event.payload() for event in EventBatch.from_conf(conf).events]
    except EventInvalid as error:
        event = dict(conf) if isinstance(conf, Mapping) else {}
        yield _report("FATAL", f"Event refused: {error}", event, f"{run_id}/route")
        return
    if route_error is not None or not ended:
        text = "No process reacts to this event" if route_error is None else f"Event refused: {route_error}"
        for at, event in enumerate(events):
            yield _report("FATAL" if route_error else "INFO", text, event, f"{run_id}/route/{at}")
        return
    for process, end in ended.items():
        for index, at in enumerate(end.positions):
            report_type, text = _verdict(process, end, index)
            yield _report(report_type, text, events[at], f"{run_id}/{process}/{at}")


def _decoded(xcom: Any) -> Any:
    """Read what a trigger left: Airflow 3.3 stores its XComs as the text of their JSON."""
    return json.loads(xcom) if isinstance(xcom, str) else xcom


def _verdict(process: str, end: Ended, index: int) -> tuple[ReportType, str]:
    job_id = end.job_ids[index] if end.job_ids else None
    what = {"process": process, "id": job_id}
    if end.submit_error or job_id is None:
        error = end.submit_error or "no job was submitted: the log of the task submit tells why"
        return "FATAL", _text("Event failed", {"process": process, "status": "not submitted", "error": error})
    outcome = end.outcomes[index] if end.outcomes else None
    if outcome and outcome["state"] != "complete":
        return "FATAL", _text("Event failed", {**what, "status": outcome["state"], "error": outcome["error"]})
    if outcome and (end.wait_state == "success" or _another_failed(end)):
        return "INFO", _text("Event succeeded", {**what, "status": "complete", "output": outcome["result"]})
    if end.wait_state == "success":
        error = "the wait was marked as success by a person: nobody looked how the job ended"
        return "WARN", _text("Event not awaited", {**what, "status": "unknown", "error": error})
    error = f"the wait ended as {end.wait_state}, before the job did: time limit, or a person; see its log"
    return "FATAL", _text("Event failed", {**what, "status": "unknown", "error": error})


def _another_failed(end: Ended) -> bool:
    """Tell whether the wait failed for another event of the batch, so that this one's outcome still holds."""
    return any(outcome["state"] != "complete" for outcome in end.outcomes or ())


def _text(verdict: str, facts: Mapping[str, Any]) -> str:
    return f"{verdict}: {json.dumps(facts, ensure_ascii=False)}"


def _report(report_type: ReportType, message: str, event: dict[str, Any], key: str) -> Report:
    genome = event.get("genome")
    return Report(
        report_type=report_type,
        process=PROCESS,
        resource=genome if isinstance(genome, str) else None,
        params=event,
        message=message,
        key=f"{key}/{report_type}",
    )
