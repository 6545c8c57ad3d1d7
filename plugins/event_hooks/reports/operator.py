"""Report how each process of a run ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from event_hooks import reason, settings, xcom
from event_hooks.events import EventBatch
from event_hooks.exceptions import EventInvalid
from event_hooks.ledger.ledger import Ledger, Outcome, OwedReport
from event_hooks.reports.hook import RabbitMQHook
from event_hooks.reports.report import Report, ReportType, event_report, is_wanted, told

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context


KNOWN = "known"
"""The XCom key of the route task that holds its duplicates."""


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

    They are owed once the ledger has them: what a broker that is down does not take, the DAG tend_ledger
    sends as well. A retry is harmless: a repeated report has the same ``message_id``.

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
        known = ti.xcom_pull(task_ids=route, key=KNOWN) or {}
        duplicates = {int(position): first for position, first in known.items()}
        made = reports_of(run.conf, run.run_id, ended, error, duplicates)
        reports = [report for report in made if is_wanted(report, settings.report_level())]
        ledger = Ledger()
        _settle(ledger, run.run_id, ended, reports)
        owed = ledger.count_owed(run.run_id)
        self.log.info("%s reports are owed", owed)
        send_owed(ledger, run.run_id)
        ledger.close()
        for report in reports:
            self.log.info("Reported %s for %s: %s", report.routing_key, report.resource, report.message)


def send_owed(ledger: Ledger, run_id: str | None = None) -> int:
    """
    Publish the reports that are owed, of one run or of all, and count them.

    :raises ReportNotPublished: the first that the broker did not take, and all after it, are still owed.
    """
    publish = partial(RabbitMQHook().publish, exchange=settings.report_exchange())
    count = 0
    while sent := ledger.send(publish, run_id=run_id):
        count += sent
    return count


def _settle(ledger: Ledger, run_id: str, ended: Mapping[str, Ended], reports: Sequence[Report]) -> None:
    """Write down how the jobs ended, and what is owed for it."""
    ids = {entry.position: entry.id for entry in ledger.events_of(run_id)}
    for process, end in ended.items():
        outcomes = [
            Outcome(ids[position], told["state"], told["result"], told["error"])
            for position, told in zip(end.positions, end.outcomes or (), strict=False)
            if position in ids
        ]
        ledger.record_outcomes(process, outcomes, ())
    ledger.owe(
        [
            OwedReport(
                report.message_id,
                None if report.position is None else ids.get(report.position),
                run_id,
                report.routing_key,
                report.body,
            )
            for report in reports
        ]
    )


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
    conf: object,
    run_id: str,
    ended: Mapping[str, Ended],
    route_error: str | None,
    duplicates: Mapping[int, str] = MappingProxyType({}),
) -> Iterator[Report]:
    """
    Give the reports of a run that is over.

    :param duplicates: ``{position: run id}`` of events that another run has, or another place in this one.

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
            yield event_report("FATAL", f"Event refused: {route_error}", event, f"{run_id}/route/{at}", at)
        return
    for process, end in ended.items():
        for index, at in enumerate(end.positions):
            report_type, text = _verdict(end, index, {"process": process, "run": run_id})
            yield event_report(report_type, text, events[at], f"{run_id}/{process}/{at}", at)
    for at, first in duplicates.items():
        text = told("Event ignored", {"run": run_id, "status": "known", "first_run": first})
        yield event_report("DEBUG", text, events[at], f"{run_id}/route/{at}", at)
    planned = {at for end in ended.values() for at in end.positions} | duplicates.keys()
    for at in sorted(set(range(len(events))) - planned):
        text = "No process reacts to this event"
        yield event_report("INFO", text, events[at], f"{run_id}/route/{at}", at)


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
