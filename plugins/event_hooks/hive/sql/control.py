"""
Reset and stop submitted jobs on behalf of a user.

Each function takes a connection inside a transaction that sees committed rows of others. Both are idempotent:
a repeated call finds nothing more to change. No row is deleted: a delete would remove jobs that are running,
and break their workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from more_itertools import sliced
from sqlalchemy import Connection, Row, Select, insert, literal, select, update

from event_hooks.hive.sql.inputs import find_foreign_jobs
from event_hooks.hive.sql.job_trees import (
    NOT_RUNNING_STATUSES,
    NOT_STARTED_STATUSES,
    JobState,
    JobTree,
    load_trees,
)
from event_hooks.hive.sql.log_notes import RESUMED_NOTE, STOPPED_NOTE, load_stopped_jobs
from event_hooks.hive.sql.outcomes import load_trees_with_funnels
from event_hooks.hive.sql.submission import has_counter_triggers, status_after_submit
from event_hooks.hive.sql.tables import CHUNK_ROWS, analysis_stats, is_in, job, log_message, semaphore

COUNTERS = {
    "READY": "ready_job_count",
    "SEMAPHORED": "semaphored_job_count",
    "DONE": "done_job_count",
    "FAILED": "failed_job_count",
}
"""Column of ``analysis_stats`` that counts the jobs of each status."""

MAX_STOP_ROUNDS = 10
"""Reads of the trees during a stop: a SEMAPHORED job may be released before its status is changed."""


@dataclass(frozen=True)
class ControlResult:
    """Result of a reset or a stop of the trees of submitted jobs."""

    changed_ids: list[int]
    """Jobs whose status was changed."""

    running_ids: list[int]
    """Jobs that were left alone, because a worker is running them, or another event needs them."""

    foreign_ids: list[int] = field(default_factory=list)
    """Submitted jobs that were left alone, because they lack the expected token or a row; sorted."""


def reset_jobs(connection: Connection, jobs: Mapping[int, str | None]) -> ControlResult:
    """
    Reset the failed and the stopped jobs of these trees, so that they run again.

    The changes are those of eHive (``AnalysisJobAdaptor::reset_jobs_for_analysis_id`` of 2.5 to 2.8): the job
    becomes READY, or SEMAPHORED if a semaphore still holds it back; a failed job gets the ``retry_count`` 1;
    the analysis becomes LOADING. The counters of the semaphores stay, because a job that failed or was
    stopped has not decremented any.

    :param jobs: as in :func:`event_hooks.hive.sql.inputs.find_foreign_jobs`; foreign jobs are not changed.
    """
    foreign_ids = find_foreign_jobs(connection, jobs)
    trees, notes = load_trees_with_funnels(connection, sorted(jobs.keys() - foreign_ids))
    incomplete = [tree for tree in trees if tree.state() is not JobState.COMPLETE]
    stopped_ids = notes.stopped | load_stopped_jobs(connection, incomplete)
    failed_ids = {job_id for tree in trees for job_id in tree.find_by_status("FAILED")}
    changed_ids = _change_status(connection, failed_ids, "FAILED", None)
    changed_ids += _change_status(connection, stopped_ids, "DONE", None)
    return ControlResult(changed_ids, _find_running(trees), sorted(foreign_ids))


def stop_jobs(connection: Connection, jobs: Mapping[int, str | None]) -> ControlResult:
    """
    Stop the jobs of these trees that have not started, from the root downwards; running jobs continue.

    A stopped job becomes DONE: the status FAILED would end a beekeeper with default options, and so stop the
    work of all users. Its semaphore is not decremented, so the jobs behind it do not start. A note in
    ``log_message`` distinguishes it from a job that ran.

    :param jobs: as in :func:`reset_jobs`.
    """
    foreign_ids = find_foreign_jobs(connection, jobs)
    root_ids = sorted(jobs.keys() - foreign_ids)
    changed_ids: list[int] = []
    for _ in range(MAX_STOP_ROUNDS):
        # Without the jobs that other trees need: a shared funnel job, and the jobs that hold it back.
        trees = load_trees(connection, root_ids, includes_shared=False).values()
        pending = {status: _find_unshared(trees, status) for status in ("READY", "SEMAPHORED")}
        if not any(pending.values()):
            break
        for status, job_ids in pending.items():
            changed_ids += _change_status(connection, job_ids, status, "DONE")
    return ControlResult(changed_ids, _find_running(trees), sorted(foreign_ids))


def _find_unshared(trees: Iterable[JobTree], status: str) -> list[int]:
    return [job_id for tree in trees for job_id in tree.find_by_status(status) if job_id not in tree.shared]


def _find_running(trees: Iterable[JobTree]) -> list[int]:
    return sorted(
        {
            job_id
            for tree in trees
            for job_id, status in tree.statuses.items()
            if status not in NOT_RUNNING_STATUSES
            or (job_id in tree.shared and status in NOT_STARTED_STATUSES)
        }
    )


def _change_status(
    connection: Connection, job_ids: Collection[int], before: str, after: str | None
) -> list[int]:
    """
    Change the status of those jobs that still have the expected status, and return their ids.

    :param after: ``None`` means READY, or SEMAPHORED if a semaphore holds the job back.
    """
    changed_ids: list[int] = []
    for chunk in sliced(list(dict.fromkeys(job_ids)), CHUNK_ROWS):
        conditions = is_in(job.c.job_id, chunk), job.c.status == before
        # An UPDATE that changes no value is a lock, in MySQL and in SQLite: no worker claims the jobs now.
        connection.execute(update(job).where(*conditions).values(status=before))
        rows = connection.execute(_select_with_semaphores().where(*conditions)).all()
        for status in {after or _runnable_status(row) for row in rows}:
            status_rows = [row for row in rows if (after or _runnable_status(row)) == status]
            status_ids = [row.job_id for row in status_rows]
            _add_notes(connection, status_ids, before, status)
            _update_jobs(connection, status_ids, before, status)
            for analysis_id, count in sorted(Counter(row.analysis_id for row in status_rows).items()):
                _update_statistics(connection, analysis_id, {before: -count, status: count})
            changed_ids += status_ids
    return changed_ids


def _select_with_semaphores() -> Select[Any]:
    held_back_by = (semaphore.c.local_jobs_counter + semaphore.c.remote_jobs_counter).label("held_back_by")
    return select(job.c.job_id, job.c.analysis_id, held_back_by).select_from(
        job.outerjoin(semaphore, semaphore.c.dependent_job_id == job.c.job_id)
    )


def _runnable_status(row: Row[Any]) -> str:
    return "SEMAPHORED" if (row.held_back_by or 0) > 0 else "READY"


def _update_jobs(connection: Connection, job_ids: Sequence[int], before: str, after: str) -> None:
    values: dict[str, Any] = {"status": after}
    if before == "FAILED":
        values["retry_count"] = 1
    if after == "DONE":
        values["when_completed"] = None  # a time would mean that the job ran
    connection.execute(update(job).where(is_in(job.c.job_id, job_ids)).values(values))


def _update_statistics(connection: Connection, analysis_id: int, changes: Mapping[str, int]) -> None:
    """
    Change the counters and the status that a beekeeper reads.

    If SQL triggers maintain the counters, only the status is changed.
    """
    stats = analysis_stats.c
    counters = {} if has_counter_triggers(connection) else changes
    values: dict[str, Any] = {
        COUNTERS[status]: stats[COUNTERS[status]] + change for status, change in counters.items()
    }
    values["status"] = status_after_submit()
    connection.execute(update(analysis_stats).where(stats.analysis_id == analysis_id).values(values))


def _add_notes(connection: Connection, job_ids: Sequence[int], before: str, after: str) -> None:
    note = STOPPED_NOTE if after == "DONE" else RESUMED_NOTE
    values = {
        "job_id": job.c.job_id,
        "retry": job.c.retry_count,
        "status": literal(after),
        "message_class": literal("INFO"),
        "msg": literal(f"{note} (it was {before}): requested by a user"),
    }
    rows = select(*values.values()).where(is_in(job.c.job_id, job_ids))
    connection.execute(insert(log_message).from_select(list(values), rows))
