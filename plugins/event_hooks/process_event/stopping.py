"""
Stop the jobs of a process because a user marked its task `wait` as failed.

The request is stored in the ledger first. The trigger of the wait then stops the jobs and records the
outcomes; if it cannot, the task `report` or the DAG `maintain_ledger` does it. Each step is idempotent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from event_hooks.exceptions import StopWithdrawn
from event_hooks.hive.hook import HiveHook, format_job_ids
from event_hooks.hive.reader import read_final_outcomes
from event_hooks.hive.sql.job_trees import JobState
from event_hooks.ledger.processes import load_process_statuses
from event_hooks.process_event import recording
from event_hooks.process_event.planning import build_tokens

if TYPE_CHECKING:
    from event_hooks.hive.sql.outcomes import JobOutcome
    from event_hooks.hive.watch import Jobs
    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.records import ProcessStatus, RunEvents

log = logging.getLogger(__name__)


def finish_stop(
    ledger: Ledger, run: RunEvents, statuses: Iterable[ProcessStatus], emits: Mapping[str, Sequence[str]]
) -> None:
    """
    Stop the jobs of processes, and record their outcomes; idempotent.

    :param statuses: processes of the run with a job and a request to stop.
    :param emits: ``{process: types of its follow-up events}``, for a job that was complete before the stop.
    :raises HiveUnreachable: a hive did not answer in time.
    :raises HiveRejected: a hive rejected the stop.
    """
    for (process, hive, attempt), group in _group(statuses).items():
        is_wanted = partial(_is_wanted, ledger, run.run_id, process, attempt)
        try:
            outcomes, message = stop_jobs(HiveHook(hive), build_tokens(run.run_id, group), is_wanted)
        except StopWithdrawn as error:
            log.warning("Run %s: %s: %s", run.run_id, process, error)
            continue
        log.warning("Run %s: %s was marked as failed; %s", run.run_id, process, message)
        for outcome in outcomes.values():  # the trigger may have stopped the jobs at the same time
            log.warning("Job %s: %s", outcome.job_id, outcome.error or outcome.state)
        by_position = select_by_position(group, outcomes)
        recording.record_outcomes(ledger, run, process, by_position, attempt, emits.get(process, ()))


def _group(statuses: Iterable[ProcessStatus]) -> dict[tuple[str, str, str], list[ProcessStatus]]:
    """Return the statuses by (process, hive, attempt)."""
    groups: dict[tuple[str, str, str], list[ProcessStatus]] = {}
    for status in statuses:
        groups.setdefault((status.process, status.hive, status.attempt or ""), []).append(status)
    return groups


def _is_wanted(ledger: Ledger, run_id: str, process: str, attempt: str) -> bool:
    return is_of_attempt(load_process_statuses(ledger, run_id, process), attempt)


def is_of_attempt(statuses: Iterable[ProcessStatus], attempt: str) -> bool:
    """Return whether the last wait for the jobs was this one; a task that was cleared starts another."""
    return any((status.attempt or "") == attempt for status in statuses)


def stop_jobs(hook: HiveHook, jobs: Jobs, is_wanted: Callable[[], bool]) -> tuple[dict[int, JobOutcome], str]:
    """
    Stop the jobs of these trees that have not started.

    :param is_wanted: as of :meth:`event_hooks.hive.hook.HiveHook.stop_jobs`, like the errors.
    :return: the outcome of each submitted job, and a message with the stopped and the running jobs.
    """
    result = hook.stop_jobs(jobs, is_wanted)
    stopped, running = format_job_ids(result.changed_ids), format_job_ids(result.running_ids)
    message = f"stopped before they started: {stopped}; still running: {running}"
    return {
        outcome.job_id: _mark_stopped(outcome, message) for outcome in read_final_outcomes(hook, jobs)
    }, message


def _mark_stopped(outcome: JobOutcome, message: str) -> JobOutcome:
    """Return the outcome of a tree that has finished, or that a user stopped while a worker runs its jobs."""
    if outcome.state is not JobState.RUNNING:
        return outcome
    return replace(outcome, state=JobState.STOPPED, error=f"stopped by a user; {message}")


def select_by_position(
    statuses: Iterable[ProcessStatus], outcomes: Mapping[int, JobOutcome]
) -> dict[int, JobOutcome]:
    """Return the outcomes of jobs by the positions of their events."""
    return {
        status.position: outcomes[status.job_id]
        for status in statuses
        if status.job_id is not None and status.job_id in outcomes
    }
