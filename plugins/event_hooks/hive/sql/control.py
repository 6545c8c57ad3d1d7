"""
What a person may do to submitted jobs: let those that failed run again, stop those that have not begun.

Each function is given a connection inside a transaction that sees what others have committed. Doing the same
again changes nothing more. Nothing is deleted: that would take running jobs with it, and break their workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from event_hooks.hive.sql import job_trees, outcomes
from event_hooks.hive.sql.outcomes import RESUMED_NOTE, STOPPED_NOTE, stopped_jobs
from event_hooks.hive.sql.submission import announced, has_triggers
from event_hooks.hive.sql.tables import analysis_stats, chunks, is_in, job, log_message, semaphore

COUNTERS = {
    "READY": "ready_job_count",
    "SEMAPHORED": "semaphored_job_count",
    "DONE": "done_job_count",
    "FAILED": "failed_job_count",
}


ROUNDS = 10
"""Looks at trees that are being stopped: what was SEMAPHORED may have been released before its turn came."""


@dataclass(frozen=True)
class Change:
    """What was done to the trees of some submitted jobs."""

    jobs: list[int]
    """Jobs that were changed."""

    running: list[int]
    """Jobs that somebody works on, or that another event needs: they run on."""


def reset(connection: Connection, entries: Sequence[int]) -> Change:
    """
    Let the jobs of these trees that FAILED, or were stopped, run again.

    As eHive's own reset does it (``AnalysisJobAdaptor::reset_jobs_for_analysis_id`` of 2.5 to 2.8): READY,
    or SEMAPHORED where a semaphore still holds the job back, ``retry_count`` 1, its analysis LOADING. The
    counters of the semaphores stay: a job that failed or was stopped has not lowered one.
    """
    found = outcomes.read(connection, entries)
    failed = {job_id for tree in found for job_id in tree.with_status("FAILED")}
    changed = _move(connection, failed, "FAILED", None)
    changed += _move(connection, stopped_jobs(connection, found), "DONE", None)
    return Change(changed, _running(found))


def stop(connection: Connection, entries: Sequence[int]) -> Change:
    """
    Stop the jobs of these trees that have not begun, from the top; what runs, runs on.

    They become DONE: FAILED would end a default beekeeper for everyone. Their semaphores are not lowered, so
    nothing that waits for them begins. A note in ``log_message`` tells them from jobs that were done.
    """
    changed: list[int] = []
    for _ in range(ROUNDS):
        # Not what other trees need: a funnel that this one uses, and the jobs that hold such a funnel back.
        found = job_trees.read(connection, entries, borrows=False).values()
        unbegun = {status: _unbegun(found, status) for status in ("READY", "SEMAPHORED")}
        if not any(unbegun.values()):
            break
        for status, job_ids in unbegun.items():
            changed += _move(connection, job_ids, status, "DONE")
    return Change(changed, _running(found))


def _unbegun(found: Iterable[job_trees.JobTree], status: str) -> list[int]:
    return [job_id for tree in found for job_id in tree.with_status(status) if job_id not in tree.shared]


def _running(found: Iterable[job_trees.JobTree]) -> list[int]:
    return sorted(
        {
            job_id
            for tree in found
            for job_id, status in tree.statuses.items()
            if status not in job_trees.NOT_RUNNING
            or (job_id in tree.shared and status in job_trees.NOT_STARTED)
        }
    )


def _move(connection: Connection, job_ids: Collection[int], before: str, after: str | None) -> list[int]:
    """
    Move jobs from one status to another, and give those that were moved.

    :param after: None is READY, or SEMAPHORED where a semaphore holds the job back.
    """
    moved: list[int] = []
    for some in chunks(list(dict.fromkeys(job_ids))):
        which = is_in(job.c.job_id, some), job.c.status == before
        # An UPDATE that changes nothing is a lock, in MySQL and SQLite: no worker claims them from here on.
        connection.execute(update(job).where(*which).values(status=before))
        rows = connection.execute(_with_semaphores().where(*which)).all()
        for status in {after or _runnable(row) for row in rows}:
            its = [row for row in rows if (after or _runnable(row)) == status]
            _set(connection, its, before, status)
            moved.extend(row.job_id for row in its)
    return moved


def _with_semaphores() -> Any:
    held_back_by = (semaphore.c.local_jobs_counter + semaphore.c.remote_jobs_counter).label("held_back_by")
    return select(job.c.job_id, job.c.analysis_id, job.c.retry_count, held_back_by).select_from(
        job.outerjoin(semaphore, semaphore.c.dependent_job_id == job.c.job_id)
    )


def _runnable(row: Row[Any]) -> str:
    return "SEMAPHORED" if (row.held_back_by or 0) > 0 else "READY"


def _set(connection: Connection, rows: Sequence[Row[Any]], before: str, after: str) -> None:
    values: dict[str, Any] = {"status": after}
    if before == "FAILED":
        values["retry_count"] = 1
    if after == "DONE":
        values["when_completed"] = None  # a time would say that it ran
    connection.execute(update(job).where(is_in(job.c.job_id, [row.job_id for row in rows])).values(values))
    for analysis_id, count in sorted(Counter(row.analysis_id for row in rows).items()):
        _count(connection, analysis_id, {before: -count, after: count})
    verb = STOPPED_NOTE if after == "DONE" else RESUMED_NOTE
    about = {
        "status": after,
        "message_class": "INFO",
        "msg": f"{verb} (it was {before}): a person asked for it",
    }
    connection.execute(
        insert(log_message), [{"job_id": row.job_id, "retry": row.retry_count, **about} for row in rows]
    )


def _count(connection: Connection, analysis_id: int, changes: dict[str, int]) -> None:
    """Keep the statistics that a beekeeper goes by; where triggers do, only say that they are news."""
    stats = analysis_stats.c
    counters = {} if has_triggers(connection) else changes
    values: dict[str, Any] = {
        COUNTERS[status]: stats[COUNTERS[status]] + change for status, change in counters.items()
    }
    values["status"] = announced()
    connection.execute(update(analysis_stats).where(stats.analysis_id == analysis_id).values(values))
