"""Report how each process of a run ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from event_hooks import reason, settings, xcom
from event_hooks.events import EventBatch
from event_hooks.exceptions import EventInvalid
from event_hooks.reports.hook import RabbitMQHook
from event_hooks.reports.report import Report, ReportType, event_report, told

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context


@dataclass(frozen=True)
class Ended:
    """How the two tasks of one process ended."""

    positions: Sequence[int]
    """Which of the run's events it was for."""

    submit_error: str | None
    job_ids: Sequence[int] | None
    outcomes: Sequence[Mapping[str, Any]] | None
    """``{"job_id", "state", "result", "error"}`` of each job, in the order of ``positions``."""

    wait_error: str | None
    """Why the wait gave up before the jobs were over."""

    wait_state: str | None
    """Airflow's state of the wait, as in success, failed, upstream_failed."""


class ReportOperator(BaseOperator):
    """
    Publish one report for each process and event of the run; make it a teardown, so that it always runs.

    A retry is harmless: a repeated report has the same ``message_id``.

    :param plan: task and key of the XCom ``{process: [position of an event, …]}``. Each process is, or was
        when the run began, a task group with the tasks ``submit`` and ``wait``.
    """

    def __init__(self, *, plan: tuple[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def execute(self, context: Context) -> None:
        """Publish what the run has come to."""
        ti, run = context["ti"], context["dag_run"]
        states = ti.get_task_states(dag_id=run.dag_id, run_ids=[run.run_id]).get(run.run_id, {})
        route, key = self.plan
        plan = ti.xcom_pull(task_ids=route, key=key)
        ended = {process: _ended(ti, process, plan[process], states) for process in plan or {}}
        error = None if plan is not None else _why_no_plan(ti, route)
        reports = list(reports_of(run.conf, run.run_id, ended, error))
        RabbitMQHook().publish(reports, settings.report_exchange())
        for report in reports:
            self.log.info("Reported %s for %s: %s", report.routing_key, report.resource, report.message)


def _why_no_plan(ti: Any, route: str) -> str:
    told = ti.xcom_pull(task_ids=route, key=reason.XCOM)
    return told or f"the task {route} ended and left no plan: its log tells why"


def _ended(ti: Any, process: str, positions: Sequence[int], states: Mapping[str, str | None]) -> Ended:
    submit, wait = f"{process}.submit", f"{process}.wait"
    left = xcom.decoded(ti.xcom_pull(task_ids=wait)) or {}
    return Ended(
        positions=positions,
        submit_error=ti.xcom_pull(task_ids=submit, key=reason.XCOM),
        job_ids=ti.xcom_pull(task_ids=submit),
        outcomes=left.get("outcomes"),
        wait_error=left.get("error"),
        wait_state=states.get(wait),
    )


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
        yield event_report("FATAL", f"Event refused: {error}", event, f"{run_id}/route")
        return
    if route_error is not None:
        for at, event in enumerate(events):
            yield event_report("FATAL", f"Event refused: {route_error}", event, f"{run_id}/route/{at}")
        return
    for process, end in ended.items():
        for index, at in enumerate(end.positions):
            report_type, text = _verdict(end, index, {"process": process, "run": run_id})
            yield event_report(report_type, text, events[at], f"{run_id}/{process}/{at}")
    for at in sorted(set(range(len(events))) - {at for end in ended.values() for at in end.positions}):
        yield event_report("INFO", "No process reacts to this event", events[at], f"{run_id}/route/{at}")


def _verdict(end: Ended, index: int, whose: Mapping[str, str]) -> tuple[ReportType, str]:
    job_id = end.job_ids[index] if end.job_ids else None
    what = {**whose, "id": job_id}
    if end.submit_error or job_id is None:
        error = end.submit_error or "no job was submitted: the log of the task submit tells why"
        return "FATAL", told("Event failed", {**whose, "status": "not submitted", "error": error})
    outcome = end.outcomes[index] if end.outcomes else None
    if outcome and outcome["state"] != "complete":
        return "FATAL", told("Event failed", {**what, "status": outcome["state"], "error": outcome["error"]})
    if outcome and (end.wait_state == "success" or _another_failed(end)):
        doubt = {"caution": outcome["caution"]} if outcome.get("caution") else {}
        facts = {**what, "status": "complete", "output": outcome["result"], **doubt}
        return ("WARN" if doubt else "INFO"), told("Event succeeded", facts)
    if end.wait_state == "success":
        error = "the wait was marked as success by a person: nobody looked how the job ended"
        return "WARN", told("Event not awaited", {**what, "status": "unknown", "error": error})
    error = end.wait_error or _why_not_awaited(end.wait_state)
    return "FATAL", told("Event failed", {**what, "status": "unknown", "error": error})


def _why_not_awaited(wait_state: str | None) -> str:
    if wait_state in (None, "removed"):
        return "the process left the lookup while its job ran, so that nobody waited for it: look in its hive"
    return f"the wait ended as {wait_state} before its job did, by a person: its log says what was stopped"


def _another_failed(end: Ended) -> bool:
    """Tell whether the wait failed for another event of the batch, so that this one's outcome still holds."""
    return any(outcome["state"] != "complete" for outcome in end.outcomes or ())
