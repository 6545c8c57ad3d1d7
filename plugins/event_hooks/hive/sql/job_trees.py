"""
Read jobs of a hive together with all their descendants.

A tree is read from its root, level by level, and each statement runs outside a transaction. A job becomes
DONE after its children were inserted, so the statement that reads it as DONE, or a later one, finds all its
children: a tree is never reported as complete too early. A DONE job with known children is not read again.

Alternatives: eHive's ``-wrap`` semaphore has a counter that shows in one row that a tree is complete. It does
not distinguish a failed tree from a running one, does not show the progress of a tree, and needs one more row
per event (measured: ``docs/performance.md``). A recursive query is limited: beyond 1,000 levels MariaDB omits
the remaining rows without an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, select, union_all

from event_hooks.hive.sql.tables import build_id_conditions, job, semaphore

DONE_STATUSES = frozenset({"DONE", "PASSED_ON"})
"""Final statuses. FAILED is not one of them: a user may reset a failed job."""

NOT_STARTED_STATUSES = frozenset({"SEMAPHORED", "READY"})
"""Statuses of jobs that no worker has claimed."""

NOT_RUNNING_STATUSES = DONE_STATUSES | NOT_STARTED_STATUSES | {"FAILED"}
"""Statuses of jobs that no worker is running."""

MAX_IDS_PER_STATEMENT = 25_000
"""Job ids in one statement. Above about 36,000, MySQL 8 would scan the whole table instead."""


class JobState(StrEnum):
    """State of a submitted job and its tree. Only COMPLETE is success."""

    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    STOPPED = "stopped"
    MISSING = "missing"


@dataclass(eq=False)
class JobTree:
    """A submitted job (the root) and its descendants, as of the last read."""

    root_id: int
    statuses: dict[int, str] = field(default_factory=dict)
    """``{job_id: job.status}``: the root first, each job before its children."""

    result_ids: list[int] = field(default_factory=list)
    """The jobs that may have the tree's result: the root, and its successors if eHive marked it PASSED_ON."""

    deleted: set[int] = field(default_factory=set)
    """Jobs that were deleted before they finished."""

    unsettled: set[int] = field(default_factory=set)
    """Jobs to read again: they are unfinished, or their children were not read after they finished."""

    shared: set[int] = field(default_factory=set)
    """Jobs that hold back a funnel job of another tree."""

    root_semaphore_id: int | None = None
    """The semaphore that the root controls; the job that it holds back does not belong to this tree."""

    def state(self) -> JobState:
        """
        Return the state that follows from the statuses; STOPPED is not visible in them.

        A SEMAPHORED job in a tree with a FAILED job will never run. Without a FAILED job it may still run.
        """
        statuses = set(self.statuses.values())
        if self.root_id not in self.statuses:
            return JobState.MISSING
        if not statuses <= NOT_RUNNING_STATUSES or "READY" in statuses:
            return JobState.RUNNING
        if "FAILED" in statuses:
            return JobState.FAILED
        if "SEMAPHORED" in statuses:
            return JobState.RUNNING
        return JobState.MISSING if self.deleted else JobState.COMPLETE

    def find_by_status(self, *statuses: str) -> list[int]:
        """Return the ids of the jobs with one of these statuses, each job before its children."""
        return [job_id for job_id, status in self.statuses.items() if status in statuses]

    def count_by_status(self, *statuses: str) -> int:
        """Return the number of jobs with one of these statuses."""
        values = list(self.statuses.values())
        return sum(values.count(status) for status in statuses)


class JobForest:
    """
    The job trees of one hive that are being followed.

    :param is_full_read: a single refresh also reads the children of unfinished jobs below the roots.
    :param includes_shared: a tree includes the funnel jobs of other trees that its jobs hold back.
    """

    def __init__(self, *, is_full_read: bool = False, includes_shared: bool = True) -> None:
        self._is_full_read = is_full_read
        self._includes_shared = includes_shared
        self.trees: dict[int, JobTree] = {}
        """``{root id: tree}``."""

        self.analysis_ids: dict[int, int] = {}
        """``{job_id: analysis_id}`` of the jobs of all trees."""

        self._trees_by_job: dict[int, tuple[JobTree, ...]] = {}
        self._statuses: dict[int, str | None] = {}

    def refresh(self, connection: Connection, root_ids: Iterable[int]) -> set[JobTree]:
        """
        Read the changes of these trees; a root without a tree gets a new one.

        Runs at most one statement per level for each 25,000 unsettled jobs of that level.

        :param connection: in autocommit mode, so that each statement sees the rows committed before it.
        :return: the trees that have changed.
        """
        changed: set[JobTree] = set()
        job_ids = {job_id for root_id in root_ids for job_id in self._get_or_add_tree(root_id).unsettled}
        # A job that has not started has no children. A root may have finished since the last read, so its
        # children are read in the same statement.
        parent_ids = {
            job_id
            for job_id in job_ids
            if job_id in self.trees or self._statuses[job_id] not in NOT_STARTED_STATUSES
        }
        read_parent_ids: set[int] = set()
        while job_ids or parent_ids:
            read_parent_ids |= parent_ids
            rows = _load_rows(connection, job_ids, parent_ids)
            self._mark_deleted(job_ids.difference([row[0] for row in rows]), changed)
            rows = [row for row in rows if self._statuses.get(row[0]) != row[2] or row[1] in parent_ids]
            self._update_statuses(rows, changed)
            self._add_children(rows, changed)
            job_ids = self._add_shared_funnels(rows)
            parent_ids = self._settle(read_parent_ids, [*[row[0] for row in rows], *parent_ids])
        return changed

    def add_shared_job(self, root_id: int, job_id: int) -> bool:
        """Add a job of another tree to this tree, and return whether the job is new in this tree."""
        tree = self.trees[root_id]
        # A job that another job of this tree has added may not have been read yet.
        if tree in self._trees_by_job.get(job_id, ()) or job_id in tree.deleted:
            return False
        self._add_job(tree, job_id)
        return True

    def mark_unsettled(self, job_id: int) -> None:
        """Have a finished job read again at the next refresh, because a user may have reset it."""
        for tree in self._trees_by_job.get(job_id, ()):
            tree.unsettled.add(job_id)

    def remove(self, root_id: int) -> None:
        """Remove a tree, and all data about jobs that no other tree includes."""
        tree = self.trees.pop(root_id, None)
        for job_id in {*tree.statuses, *tree.unsettled} if tree else ():
            trees = tuple(other for other in self._trees_by_job.get(job_id, ()) if other is not tree)
            if trees:
                self._trees_by_job[job_id] = trees
            else:
                for values in (self._trees_by_job, self._statuses, self.analysis_ids):
                    values.pop(job_id, None)

    def _get_or_add_tree(self, root_id: int) -> JobTree:
        if root_id not in self.trees:
            self.trees[root_id] = JobTree(root_id, result_ids=[root_id])
            self._add_job(self.trees[root_id], root_id)
        return self.trees[root_id]

    def _add_job(self, tree: JobTree, job_id: int) -> None:
        tree.unsettled.add(job_id)
        self._trees_by_job[job_id] = (*self._trees_by_job.get(job_id, ()), tree)
        # The next row of the job is a change for this tree, even if another tree has the same status already.
        self._statuses[job_id] = None

    def _update_statuses(self, rows: Iterable[Any], changed: set[JobTree]) -> None:
        """Store the statuses of known jobs, before children are added: the order of the rows is undefined."""
        for job_id, _, status, analysis_id, semaphore_id, _ in rows:
            self._statuses[job_id] = status
            self.analysis_ids[job_id] = analysis_id
            if job_id in self.trees:
                self.trees[job_id].root_semaphore_id = semaphore_id
            for tree in self._trees_by_job.get(job_id, ()):
                if tree.statuses.get(job_id) != status:
                    tree.statuses[job_id] = status
                    changed.add(tree)
                    if status not in DONE_STATUSES:
                        tree.unsettled.add(job_id)

    def _add_children(self, rows: Iterable[Any], changed: set[JobTree]) -> None:
        """Add each job to the trees of its parent."""
        for job_id, parent_id, status, *_ in rows:
            trees = self._trees_by_job.get(parent_id)
            if not trees:
                continue
            known = self._trees_by_job.setdefault(job_id, trees)  # shared by the jobs of a tree: saves memory
            if known is not trees:
                self._trees_by_job[job_id] = tuple(dict.fromkeys((*known, *trees)))
            for tree in trees:
                if job_id not in tree.statuses:
                    tree.statuses[job_id] = status
                    tree.unsettled.add(job_id)
                    changed.add(tree)
                is_successor = self._statuses[parent_id] == "PASSED_ON" and parent_id in tree.result_ids
                if is_successor and job_id not in tree.result_ids:
                    tree.result_ids.append(job_id)

    def _mark_deleted(self, job_ids: Iterable[int], changed: set[JobTree]) -> None:
        for job_id in job_ids:
            self._statuses.pop(job_id)
            self.analysis_ids.pop(job_id, None)
            for tree in self._trees_by_job.pop(job_id):
                tree.statuses.pop(job_id, None)
                tree.unsettled.discard(job_id)
                tree.deleted.add(job_id)
                changed.add(tree)

    def _add_shared_funnels(self, rows: Iterable[Any]) -> set[int]:
        """
        Add the funnel jobs of other trees that these jobs hold back, and return those that are new.

        On eHive's stock tables, eHive uses an equal existing funnel instead of inserting a second one. The
        ``prev_job_id`` of that funnel is in the tree that inserted it. Further jobs that such a funnel holds
        back belong to that other tree alone.
        """
        new_ids = set()
        for job_id, parent_id, _, _, semaphore_id, funnel_id in rows:
            for tree in self._trees_by_job.get(parent_id, ()) if funnel_id is not None else ():
                if semaphore_id == tree.root_semaphore_id or funnel_id in tree.statuses:
                    continue
                tree.shared.add(job_id)
                if self._includes_shared and self.add_shared_job(tree.root_id, funnel_id):
                    new_ids.add(funnel_id)
        return new_ids

    def _settle(self, read_parent_ids: set[int], candidates: Iterable[int]) -> set[int]:
        """Settle finished jobs whose children were read; return the jobs with unread children."""
        unread_ids = set()
        for job_id in candidates:
            status = self._statuses.get(job_id)
            is_done = status in DONE_STATUSES
            if not (is_done or status == "FAILED" or self._is_full_read):
                continue
            for tree in self._trees_by_job.get(job_id, ()):
                if job_id not in tree.unsettled:
                    continue
                if job_id not in read_parent_ids:
                    unread_ids.add(job_id)
                elif is_done:
                    tree.unsettled.discard(job_id)
        return unread_ids


def load_trees(
    connection: Connection, root_ids: Sequence[int], *, includes_shared: bool = True
) -> Mapping[int, JobTree]:
    """
    Read the complete trees of these jobs once.

    :param connection: in autocommit mode, or in a transaction that sees committed rows (READ COMMITTED).
    :param includes_shared: as in :class:`JobForest`.
    :return: ``{root id: tree}``, also for roots without a row in the hive.
    """
    forest = JobForest(is_full_read=True, includes_shared=includes_shared)
    forest.refresh(connection, root_ids)
    return forest.trees


def _load_rows(connection: Connection, job_ids: Iterable[int], parent_ids: Iterable[int]) -> list[Any]:
    """
    Load jobs, and the children of jobs, each with the job that its semaphore holds back.

    The children of a job are loaded by the same statement, and so from the same snapshot, or by a later one:
    if the job's row shows it as finished, all its children are found.

    :return: rows with the columns of ``_SELECT_JOBS``, in undefined order; one for each job, the newest.
    """
    own, parents = sorted(job_ids), sorted(parent_ids)
    rows: dict[int, Any] = {}
    for start in range(0, len(own) + len(parents), MAX_IDS_PER_STATEMENT):
        end = start + MAX_IDS_PER_STATEMENT
        conditions = [
            *build_id_conditions(job.c.job_id, own[start:end]),
            *build_id_conditions(
                job.c.prev_job_id, parents[max(0, start - len(own)) : max(0, end - len(own))]
            ),
        ]
        statement = union_all(*map(_SELECT_JOBS.where, conditions))
        rows.update((row[0], row) for row in connection.execute(statement))
    return list(rows.values())


_SELECT_JOBS = select(
    job.c.job_id,
    job.c.prev_job_id,
    job.c.status,
    job.c.analysis_id,
    job.c.controlled_semaphore_id,
    semaphore.c.dependent_job_id,
).select_from(job.outerjoin(semaphore, semaphore.c.semaphore_id == job.c.controlled_semaphore_id))
