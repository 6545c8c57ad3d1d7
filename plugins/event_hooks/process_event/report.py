"""The task `report`: store missing outcomes, and publish the pending reports of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from event_hooks import metrics, xcom
from event_hooks.exceptions import EventInvalid
from event_hooks.ledger import joins
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.processes import load_run_statuses, store_outcomes, store_plan
from event_hooks.ledger.records import ProcessOutcome, ProcessState, ProcessStatus
from event_hooks.ledger.reports import count_pending_reports, store_reports
from event_hooks.process_event.recording import load_event_ids, record_outcomes
from event_hooks.reports.builder import ReportBuilder, build_invalid_event_report
from event_hooks.reports.outbox import send_pending_of_run, to_pending

if TYPE_CHECKING:
    from airflow.sdk import Context

    from event_hooks.reports.report import Report


@dataclass(frozen=True)
class TaskResults:
    """Results of the two tasks of one process."""

    positions: Sequence[int]
    """Positions of the process's events in the run."""

    submit_error: str | None
    job_ids: Sequence[int] | None
    outcomes: Sequence[Mapping[str, Any]] | None
    """``{"job_id", "state", "result", "error"}`` of each job, in the order of ``positions``."""

    wait_error: str | None
    """Reason why the wait ended before the jobs finished."""

    wait_state: str | None
    """Airflow's state of the wait: success, failed, upstream_failed…"""

    attempt: str = ""
    """Id of the task instance of the wait; empty if it never started."""

    def outcomes_by_position(self) -> dict[int, Mapping[str, Any]]:
        """Return the outcomes that the wait stored."""
        return dict(zip(self.positions, self.outcomes or (), strict=False))


class ReportOperator(BaseOperator):
    """
    Store an outcome of each process and event, and publish the reports.

    Make it a teardown, so that it always runs. The waits record and report the outcomes of jobs as they
    arrive. This task adds outcomes that they could not record, and a summary of each event. It fails
    while the broker is unavailable. A retry is idempotent: reports with the same message id are stored
    once.

    :param plan: task and key of the XCom ``{process: [position of an event, …]}``. Each process is, or
        was when the run started, a task group with the tasks ``submit`` and ``wait``.
    :param emits: ``{process: types of its follow-up events}``.
    """

    def __init__(self, *, plan: tuple[str, str], emits: Mapping[str, Sequence[str]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.emits = emits

    def execute(self, context: Context) -> None:
        """
        Store missing outcomes, and publish the pending reports.

        :raises ReportNotPublished: reports are still pending.
        """
        run = context["dag_run"]
        ledger = Ledger()
        event_ids = load_event_ids(ledger, run.run_id)
        try:
            builder = ReportBuilder(run.conf, run.run_id)
        except EventInvalid as error:
            metrics.count_rejected("run")
            reports = [build_invalid_event_report(run.conf, run.run_id, error)]
        else:
            reports = self._finish_run(context["ti"], ledger, builder, event_ids)
        for report in reports:
            self.log.info("%s for %s: %s", report.routing_key, report.resource, report.message)
        store_reports(ledger, to_pending(reports, run.run_id, event_ids))
        self.log.info("%s reports are pending", count_pending_reports(ledger, run.run_id))
        self.log.info("%s reports are sent", send_pending_of_run(ledger, run.run_id))
        ledger.close()

    def _finish_run(
        self, ti: Any, ledger: Ledger, builder: ReportBuilder, event_ids: Mapping[int, int]
    ) -> list[Report]:
        """Store the outcomes that the waits could not store, and return the reports of the run's events."""
        route, key = self.plan
        plan = ti.xcom_pull(task_ids=route, key=key)
        if plan is None:
            return _reject_events(ledger, builder, event_ids, _explain_missing_plan(ti, route))
        task_states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[builder.run_id]).get(builder.run_id, {})
        results = {
            process: load_task_results(ti, process, positions, task_states)
            for process, positions in plan.items()
        }
        for process, result in results.items():
            emits = self.emits.get(process, ())
            outcomes = result.outcomes_by_position()
            record_outcomes(ledger, builder, process, event_ids, outcomes, result.attempt, emits)
        for process, statuses in _load_unfinished(ledger, builder.run_id).items():
            result = results.get(process) or load_task_results(ti, process, [], task_states)
            _store_missing_outcomes(ledger, builder, event_ids, result, statuses)
        statuses_of_run = load_run_statuses(ledger, builder.run_id)
        return list(build_summaries(builder, statuses_of_run, event_ids, _load_joins(ledger, event_ids)))


def _explain_missing_plan(ti: Any, route: str) -> str:
    error = ti.xcom_pull(task_ids=route, key=xcom.ERROR_KEY)
    return error or f"the task {route} ended without a plan: see its log"


def _reject_events(
    ledger: Ledger, builder: ReportBuilder, event_ids: Mapping[int, int], error: str
) -> list[Report]:
    """Store an outcome of each process that was planned or submitted before the run failed to plan."""
    for status in load_run_statuses(ledger, builder.run_id):
        if not status.is_finished:
            submit_error = None if status.job_id else error
            result = TaskResults([], submit_error, None, None, error, None)
            _store_missing_outcomes(ledger, builder, event_ids, result, [status])
    store_plan(ledger, builder.run_id, ())
    metrics.count_rejected("run", len(builder.events))
    return [builder.rejected(position, error) for position in range(len(builder.events))]


def load_task_results(
    ti: Any, process: str, positions: Sequence[int], task_states: Mapping[str, str | None]
) -> TaskResults:
    """Load the results of the tasks ``submit`` and ``wait`` of a process from their XComs."""
    submit, wait = f"{process}.submit", f"{process}.wait"
    wait_result = xcom.decode_xcom(ti.xcom_pull(task_ids=wait)) or {}
    return TaskResults(
        positions=positions,
        submit_error=ti.xcom_pull(task_ids=submit, key=xcom.ERROR_KEY),
        job_ids=ti.xcom_pull(task_ids=submit),
        outcomes=wait_result.get("outcomes"),
        wait_error=wait_result.get("error"),
        wait_state=task_states.get(wait),
        attempt=wait_result.get("task_instance_id") or "",
    )


def _load_unfinished(ledger: Ledger, run_id: str) -> dict[str, list[ProcessStatus]]:
    unfinished: dict[str, list[ProcessStatus]] = {}
    for status in load_run_statuses(ledger, run_id):
        if not status.is_finished:
            unfinished.setdefault(status.process, []).append(status)
    return unfinished


def _store_missing_outcomes(
    ledger: Ledger,
    builder: ReportBuilder,
    event_ids: Mapping[int, int],
    result: TaskResults,
    statuses: Sequence[ProcessStatus],
) -> None:
    """Store the outcomes of unfinished events of one process, with their reports."""
    outcomes, reports = [], []
    for status in statuses:
        state, error, report = resolve_missing_outcome(builder, result, status)
        outcomes.append(ProcessOutcome(status.event_id, state, None, error))
        reports.append(report)
    pending = to_pending(reports, builder.run_id, event_ids)
    store_outcomes(ledger, statuses[0].process, outcomes, result.attempt, pending)


def resolve_missing_outcome(
    builder: ReportBuilder, result: TaskResults, status: ProcessStatus
) -> tuple[ProcessState, str, Report]:
    """
    Return state, error and report of an unfinished (process, event) after its tasks have ended.

    Only an outcome from the hive can be a success. A successful task is not enough: a user can mark it as
    success.
    """
    # The API server may also have submitted a job of a process that was removed from the DAG.
    job_ids = dict(zip(result.positions, result.job_ids or (), strict=False))
    job_id = job_ids.get(status.position, status.job_id)
    position, process = status.position, status.process
    if result.submit_error or job_id is None:
        error = result.submit_error or "no job was submitted: see the log of the task submit"
        return ProcessState.NOT_SUBMITTED, error, builder.not_submitted(position, process, error)
    is_wanted = result.wait_state == "success"
    if is_wanted:
        error = "a user marked the wait as success: the outcome of the job was not read"
    else:
        error = result.wait_error or _explain_missing_outcome(result.wait_state)
    report = builder.outcome_unknown(
        position, process, job_id, error, result.attempt, is_user_decision=is_wanted
    )
    return ProcessState.UNKNOWN, error, report


def _explain_missing_outcome(wait_state: str | None) -> str:
    if wait_state in (None, "removed"):
        return "the process was removed from the lookup while its job ran, and the wait ended: see its hive"
    return f"a user ended the wait as {wait_state} before its job finished: its log names the stopped jobs"


def build_summaries(
    builder: ReportBuilder,
    statuses: Sequence[ProcessStatus],
    event_ids: Mapping[int, int],
    joins_of_events: Mapping[int, Sequence[str]] | None = None,
) -> Iterator[Report]:
    """
    Yield the summary of each event of the run, without duplicates of events of other runs.

    :param joins_of_events: ``{event id: processes that wait for further events}``.
    """
    statuses_of_events: dict[int, list[ProcessStatus]] = {position: [] for position in sorted(event_ids)}
    for status in statuses:
        statuses_of_events[status.position].append(status)
    for position, statuses_of_event in statuses_of_events.items():
        if statuses_of_event:
            yield builder.event_finished(position, statuses_of_event)
        else:
            yield builder.no_process(position, (joins_of_events or {}).get(event_ids[position], ()))


def _load_joins(ledger: Ledger, event_ids: Mapping[int, int]) -> dict[int, list[str]]:
    processes: dict[int, list[str]] = {}
    for event_id, join_wait in joins.list_waits_of_events(ledger, list(event_ids.values())):
        processes.setdefault(event_id, []).append(join_wait.process)
    return processes
