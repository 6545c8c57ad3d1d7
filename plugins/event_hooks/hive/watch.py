"""Follow submitted jobs of a hive: log what the polls find, and tell lasting stalls from short ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from event_hooks.hive.connection import resolve_hive_async
from event_hooks.hive.hook import MAX_LOGGED_JOBS, HiveHook
from event_hooks.hive.poller import get_poller
from event_hooks.hive.sql.job_trees import JobState

if TYPE_CHECKING:
    from event_hooks.hive.reader import HiveChanges, JobProgress
    from event_hooks.hive.sql.diagnosis import Stall

MAX_LOGGED_ERRORS = 200
"""Errors and warnings of jobs that are logged after one poll; the reports contain all of them."""

T = TypeVar("T")

Jobs = Mapping[int, str | None]
"""``{job id: token that its input contains}``; ``None`` if the input is not checked."""


async def watch_jobs(
    hive_conn_id: str,
    jobs: Jobs,
    ready_timeout: float,
    log: Any,
    *,
    waited: float = 0,
    known_stalls: Collection[str] = (),
) -> AsyncIterator[HiveChanges]:
    """
    Yield the changes of submitted jobs and their trees, until all of these trees are finished.

    The stalls of a yielded stall check are those that two consecutive checks found, because a stall that only
    one check finds may be a beekeeper that restarts.

    :param ready_timeout: seconds after which a READY job is stalled.
    :param waited: seconds that a trigger waited for these jobs before Airflow restarted it here.
    :param known_stalls: ``Stall.key`` of the stalls that were yielded before such a restart.
    :raises HiveRejected: as :meth:`event_hooks.hive.poller.HivePoller.subscribe`.
    """
    confirmed: set[str] = set(known_stalls)
    previous: Mapping[str, Stall] | None = None
    finished_count = 0
    async for changes in get_poller(hive_conn_id).subscribe(jobs, ready_timeout, waited):
        finished_count += len(changes.outcomes)
        _log_changes(log, changes)
        if changes.outcomes and len(jobs) > 1:
            log.info("%s of %s jobs in %s are finished", finished_count, len(jobs), hive_conn_id)
        if changes.is_stall_check:
            stalls = {stall.key: stall for stall in changes.stalls}
            earlier = confirmed if previous is None else previous.keys()
            present = stalls.keys() & earlier
            _log_stalls(log, stalls, present - confirmed, confirmed - present)
            previous, confirmed = stalls, set(present)
            changes = replace(changes, stalls=[stalls[key] for key in sorted(present)])
        yield changes


async def call_hook(hive_conn_id: str, operation: Callable[[HiveHook, Jobs], T], jobs: Jobs) -> T:
    """
    Run an operation on jobs of a hive, from inside an event loop.

    It runs in a new thread, because the executor of the event loop may be busy.
    """
    hook = HiveHook(hive_conn_id, await resolve_hive_async(hive_conn_id))
    executor = ThreadPoolExecutor(1)
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, operation, hook, jobs)
    finally:
        executor.shutdown(wait=False)


def _log_changes(log: Any, changes: HiveChanges) -> None:
    if changes.message:
        log.warning("%s", changes.message)
    for progress in changes.progress[:MAX_LOGGED_JOBS]:
        log.info("%s", _format_progress(progress))
    if (more := len(changes.progress) - MAX_LOGGED_JOBS) > 0:
        log.info("Progress of %s more jobs", more)
    complete = [outcome for outcome in changes.outcomes if outcome.state is JobState.COMPLETE]
    for outcome in complete[:MAX_LOGGED_JOBS]:
        log.info("Job %s is complete", outcome.job_id)
    with_message = [outcome for outcome in changes.outcomes if outcome.warning or outcome.error]
    for outcome in with_message[:MAX_LOGGED_ERRORS]:
        if outcome.warning:
            log.warning("Job %s is complete, but %s", outcome.job_id, outcome.warning)
        else:
            log.error("Job %s is %s: %s", outcome.job_id, outcome.state, outcome.error)


def _format_progress(progress: JobProgress) -> str:
    failed = f", {progress.failed} failed" if progress.failed else ""
    message = f": {progress.message}" if progress.message else ""
    return f"Job {progress.job_id}: {progress.done} of {progress.total} jobs done{failed}{message}"


def _log_stalls(log: Any, stalls: Mapping[str, Stall], new: Collection[str], ended: Collection[str]) -> None:
    for key in sorted(ended):
        log.info("No longer stalled: %s", key)
    for key in sorted(new):
        log.warning("%s", stalls[key])
