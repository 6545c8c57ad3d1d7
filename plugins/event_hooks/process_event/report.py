"""
The task `report`: record what no other task could record, publish the reports, notify, and end the run.

This task alone decides whether Airflow shows the run as failed. The states of the other tasks do not suffice:
an event can be rejected while the others of its run succeed, and a process can be removed from the DAG.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from event_hooks import metrics, xcom
from event_hooks.events import lookups
from event_hooks.exceptions import EventInvalid, RunFailed
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import load_run, load_run_events
from event_hooks.ledger.processes import load_run_statuses
from event_hooks.ledger.records import FAILURE_STATES, RetryMarker, RunEvents
from event_hooks.ledger.reports import count_pending_reports, store_reports
from event_hooks.notifications.send import send_notifications_of_run
from event_hooks.process_event import recording, summaries
from event_hooks.process_event.route import accept_conf
from event_hooks.process_event.stopping import finish_stop
from event_hooks.reports.builder import build_invalid_event_report
from event_hooks.reports.outbox import send_pending_of_run, to_pending

if TYPE_CHECKING:
    from airflow.sdk import Context

    from event_hooks.ledger.records import ProcessStatus

ROUTE = "route"
"""The task that plans the events."""

ENDED_STATES = ("success", "failed", "skipped", "upstream_failed", "removed", None)
"""States of a ``wait`` that does not wait; ``None`` also stands for a task that the run does not have."""

STOP_GRACE_SECONDS = 30.0
"""Longest time between a user's mark on a ``wait`` and its trigger's request to stop the jobs."""

POLL_SECONDS = 1.0


class ReportOperator(BaseOperator):
    """
    Record an outcome of each process and event, publish the reports, and send the notifications.

    Make it a teardown, so that it always runs, and have it decide the state of the run. The waits record the
    outcomes of jobs as they arrive. This task rejects events that were never planned, finishes stops, records
    that a job was not submitted or that its outcome is unknown, and adds a summary of each event. When all
    reports are sent, it fails if something in the run failed. A retry is idempotent.

    :param emits: ``{process: types of its follow-up events}``.
    """

    def __init__(self, *, emits: Mapping[str, Sequence[str]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.emits = emits

    def execute(self, context: Context) -> None:
        """
        Record missing outcomes, publish the pending reports, and send the pending notifications.

        :raises ReportNotPublished: reports are still pending, because the broker is unavailable.
        :raises HiveUnreachable: a hive is unavailable in which jobs are to be stopped; all reports so far are
            published.
        :raises RunFailed: all reports are sent; an event was rejected, or a process or task failed. A process
            whose ``wait`` a user has marked as success does not count.
        """
        run_id = context["dag_run"].run_id
        with closing(Ledger()) as ledger:
            try:
                tasks = RunTasks.load(context["ti"], run_id)
                if tasks.states.get(ROUTE) != "success":
                    _reject_events(ledger, context["dag_run"], tasks)
                tasks, unfinished = _load_unfinished(ledger, tasks)
                while unfinished:
                    self._finish_processes(ledger, tasks, unfinished)
                    # A trigger may have started an attempt since, which alone may store an outcome
                    tasks, unfinished = _load_unfinished(ledger, tasks)
                summaries.store_summaries(ledger, run_id)
            finally:
                self.log.info("%s reports are pending", count_pending_reports(ledger, run_id))
                self.log.info("%s reports are sent", send_pending_of_run(ledger, run_id))
            send_notifications_of_run(ledger, context)
            failures = list_failures(ledger, tasks)
        if failures:
            raise RunFailed(failures)

    def _finish_processes(self, ledger: Ledger, tasks: RunTasks, unfinished: Sequence[ProcessStatus]) -> None:
        """Finish the stops, and record the other processes without an outcome."""
        run = load_run(ledger, tasks.run_id)
        stopping = [status for status in unfinished if status.is_stopping]
        finish_stop(ledger, run, stopping, self.emits)
        for is_user_decision in (True, False):
            errors = {
                status: tasks.explain_missing_outcome(status)
                for status in unfinished
                if not status.is_stopping and tasks.is_marked_as_success(status) is is_user_decision
            }
            recording.record_missing_outcomes(ledger, run, errors, is_user_decision=is_user_decision)


@dataclass(frozen=True)
class RunTasks:
    """The tasks of a run."""

    run_id: str
    ti: Any
    """The present task instance."""

    states: Mapping[str, str | None]
    """``{task id: Airflow's state}``."""

    @classmethod
    def load(cls, ti: Any, run_id: str) -> RunTasks:
        """Load the states of all tasks."""
        return cls(run_id, ti, ti.get_task_states(dag_id=ti.dag_id, run_ids=[run_id]).get(run_id, {}))

    def find_error(self, task_id: str) -> str | None:
        """Return the error message of a task that failed; ``None`` if it left none."""
        error: str | None = self.ti.xcom_pull(task_ids=task_id, key=xcom.ERROR_KEY)
        return error

    def has_wait_ended(self, status: ProcessStatus) -> bool:
        """Return whether no task waits for the job of a process."""
        return self._wait_state(status) in ENDED_STATES

    def may_be_stopping(self, status: ProcessStatus) -> bool:
        """Return whether a user may have marked a wait as failed, and no stop is requested yet."""
        has_attempt = status.attempt is not None and not status.is_retry_requested
        return (
            status.job_id is not None
            and has_attempt
            and self._wait_state(status) == "failed"
            and status.stop_requested_at is None
        )

    def is_marked_as_success(self, status: ProcessStatus) -> bool:
        """Return whether the wait of a process that did not succeed is a success: a user marked it so."""
        return status.job_id is not None and self._wait_state(status) == "success"

    def list_failed(self) -> list[str]:
        """Return the failed tasks."""
        return [task_id for task_id, state in self.states.items() if state in ("failed", "upstream_failed")]

    def explain_missing_outcome(self, status: ProcessStatus) -> str:
        """Return why a process has no outcome, after its tasks have ended."""
        wait_state = self._wait_state(status)
        submit_error = self.find_error(f"{status.process}.submit") or self.find_error(ROUTE)
        if status.job_id is None:
            if self.states.get(f"{status.process}.wait", "removed") == "removed":
                return "the process was removed from the process lookup before its job was submitted"
            return submit_error or "no job was submitted: see the log of the task submit"
        if wait_state == "success":
            return "a user marked the wait as success: the outcome of the job was not read"
        if wait_state in (None, "removed"):
            return (
                "the process was removed from the lookup while its job ran, and no task waits: see its hive"
            )
        if wait_state == "upstream_failed":
            return f"no task waits, because an earlier task failed: {submit_error or 'see its log'}"
        return f"the wait ended as {wait_state} before it recorded an outcome: see its log"

    def _wait_state(self, status: ProcessStatus) -> str | None:
        return self.states.get(f"{status.process}.wait")


def _reject_events(ledger: Ledger, dag_run: Any, tasks: RunTasks) -> None:
    """Reject the events that are not planned, because the task ``route`` has not succeeded."""
    state = tasks.states.get(ROUTE)
    error = tasks.find_error(ROUTE) or f"the task {ROUTE} ended as {state}, without a plan: see its log"
    try:
        accept_conf(ledger, dag_run, lookups.load_cached())
    except EventInvalid as invalid:
        metrics.count_rejected("run")
        report = build_invalid_event_report(dag_run.conf, dag_run.run_id, invalid)
        store_reports(ledger, to_pending([report], dag_run.run_id))
    unplanned = [event for event in load_run_events(ledger, dag_run.run_id) if not event.is_planned]
    run = RunEvents.from_stored(dag_run.run_id, unplanned)
    recording.record_rejections(ledger, run, dict.fromkeys(run.events, error))
    metrics.count_rejected("run", len(unplanned))


def _load_unfinished(ledger: Ledger, tasks: RunTasks) -> tuple[RunTasks, list[ProcessStatus]]:
    """
    Return the present states of the tasks, and the processes without an outcome for which no task waits.

    If a user marked a ``wait`` as failed, its trigger requests the stop of its jobs in the ledger; wait for
    that request.
    """
    deadline = time.monotonic() + STOP_GRACE_SECONDS
    while True:
        statuses = load_run_statuses(ledger, tasks.run_id)
        tasks = RunTasks.load(tasks.ti, tasks.run_id)  # after the statuses: a retry may clear the tasks
        unfinished = [
            status
            for status in statuses
            if not status.is_finished
            and status.attempt != RetryMarker.REQUESTED
            and tasks.has_wait_ended(status)
        ]
        if time.monotonic() > deadline or not any(map(tasks.may_be_stopping, unfinished)):
            return tasks, unfinished
        time.sleep(POLL_SECONDS)


def list_failures(ledger: Ledger, tasks: RunTasks) -> list[str]:
    """Return the rejected events and failed processes; if there are none, the failed tasks."""
    rejected = [
        f"event {event.id} was rejected: {event.rejected_reason}"
        for event in load_run_events(ledger, tasks.run_id)
        if event.rejected_reason
    ]
    failed = [
        f"{status.process} of event {status.event_id}: {status.state}: {status.error or 'no error message'}"
        for status in load_run_statuses(ledger, tasks.run_id)
        if status.state in FAILURE_STATES and not tasks.is_marked_as_success(status)
    ]
    return [*rejected, *failed] or [
        f"the task {task_id} failed: see its log" for task_id in tasks.list_failed()
    ]
