"""The task `submit`: submit the jobs of a process, and record them in the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from event_hooks import xcom
from event_hooks.events.models import build_job_input
from event_hooks.exceptions import AnalysisNotFound, EventHooksError
from event_hooks.hive import perl
from event_hooks.hive.hook import HiveHook, format_job_ids
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import load_run
from event_hooks.ledger.processes import STATES_TO_SUBMIT, load_process_statuses, reopen_processes
from event_hooks.ledger.records import ProcessState
from event_hooks.process_event import recording
from event_hooks.process_event.links import select_links
from event_hooks.process_event.planning import group_by_hive, submit_task_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from event_hooks.ledger.records import ProcessStatus, RunEvents


ANALYSIS_RETRIES = 3
"""Retries if a hive lacks the analysis; over a minute, in which a hive that is being created gets it."""


STOPPED_BEFORE = "a user stopped the process before its job was submitted"


class SubmitRetryPolicy(RetryPolicy):
    """Retry an analysis that is not found only a few times: more often, its name is wrong."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide by the number of retries since the task started, or was cleared."""
        if not isinstance(exception, AnalysisNotFound) or context is None:
            return RetryDecision.default()
        retries_left = max_tries - try_number + 1
        if (context["task"].retries or 0) - retries_left < ANALYSIS_RETRIES:
            return RetryDecision.default()
        return RetryDecision.fail(f"{exception}, after {ANALYSIS_RETRIES} retries")


class EventSubmitOperator(BaseOperator):
    """
    Submit one job per event of a run that has this process, as the ledger's plan says, and record the jobs.

    A retry is idempotent: each input carries a token of run, event and process, and an input has one job. An
    event whose job is recorded already is left alone, unless the job is missing in its hive.

    :param process: its name in the ledger.
    :param guihive: URL of the hive in guiHIVE, if it is there.
    """

    def __init__(self, *, process: str, guihive: str | None = None, **kwargs: Any) -> None:
        super().__init__(retry_policy=SubmitRetryPolicy(), **kwargs)
        self.process = process
        self.guihive = guihive
        self.operator_extra_links = select_links(guihive)

    def execute(self, context: Context) -> dict[str, str]:
        """
        Submit the jobs of each hive, and record them.

        A process that a user has stopped before is recorded as not submitted. If recording fails, the retry
        finds the same jobs. If the task fails, the XCom ``error`` has the message.

        :return: a summary for users: ``{hive: "3 jobs: 1, 2, 3"}``; the ledger has all job ids.
        :raises AirflowSkipException: no event of the run has this process.
        :raises EventHooksError: a hive did not accept its jobs; those of the other hives are submitted.
        """
        with xcom.push_error_xcom(context["ti"]):
            ledger = Ledger()
            run = load_run(ledger, context["dag_run"].run_id)
            statuses = load_process_statuses(ledger, run.run_id, self.process)
            if not statuses:
                raise AirflowSkipException(f"no event of this run has the process {self.process}")
            event_ids = [status.event_id for status in _select_pending(statuses)]
            reopen_processes(ledger, self.process, event_ids, ProcessState.PLANNED)
            statuses = load_process_statuses(ledger, run.run_id, self.process)
            pending = _select_pending(statuses)
            stopped = [status for status in pending if status.stop_requested_at]
            errors = dict.fromkeys(stopped, STOPPED_BEFORE)
            recording.record_missing_outcomes(ledger, run, errors, is_user_decision=True)
            self._submit(ledger, run, [status for status in pending if status not in stopped])
            statuses = load_process_statuses(ledger, run.run_id, self.process)
            recording.report_jobs(ledger, run, self.process, _select_jobs(statuses))
            ledger.close()
        return summarize_jobs(statuses)

    def _submit(self, ledger: Ledger, run: RunEvents, statuses: Sequence[ProcessStatus]) -> None:
        errors: list[EventHooksError] = []
        for (hive, analysis), group in group_by_hive(statuses).items():
            try:
                job_ids = HiveHook(hive).submit(
                    analysis, [self._build_input(run, status) for status in group]
                )
            except EventHooksError as error:
                errors.append(error)
                continue
            positions = [status.position for status in group]
            jobs = dict(zip(positions, job_ids, strict=True))
            recording.record_jobs(ledger, run, self.process, jobs)
        if errors:  # an error that most retries may resolve counts first
            raise min(errors, key=lambda error: isinstance(error, (AirflowFailException, AnalysisNotFound)))

    def _build_input(self, run: RunEvents, status: ProcessStatus) -> str:
        payload, task_id = run.events[status.position].payload(), submit_task_id(self.process)
        return perl.dumps(build_job_input(payload, status.position, run.run_id, task_id, status.rerun))


def _select_pending(statuses: Sequence[ProcessStatus]) -> list[ProcessStatus]:
    """Return the processes to submit; if a user retries some, without the others that have failed."""
    is_retry = any(status.is_retry_requested for status in statuses)
    states = (ProcessState.PLANNED,) if is_retry else STATES_TO_SUBMIT
    return [status for status in statuses if status.state in states]


def _select_jobs(statuses: Sequence[ProcessStatus]) -> dict[int, int]:
    """Return the jobs without an outcome: ``{position: job id}``."""
    return {
        status.position: status.job_id
        for status in statuses
        if status.job_id is not None and status.state == ProcessState.SUBMITTED
    }


def summarize_jobs(statuses: Sequence[ProcessStatus]) -> dict[str, str]:
    """Return the jobs of processes by hive, as in ``{"hive_a": "3 jobs: 1, 2, 3"}``."""
    jobs: dict[str, list[int]] = {}
    for status in statuses:
        if status.job_id is not None:
            jobs.setdefault(status.hive, []).append(status.job_id)
    return {hive: format_job_ids(job_ids) for hive, job_ids in jobs.items()}
