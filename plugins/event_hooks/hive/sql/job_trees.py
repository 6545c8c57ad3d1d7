"""
Follow jobs of a hive with everything that grows from them.

A tree is read from the top, level by level, each statement outside a transaction. A job becomes DONE after
its children were inserted, so a statement that sees it DONE, or a later one, finds all of them: a tree is
never called complete too early. What is DONE and has its children read is not asked for again.

Not eHive's ``-wrap`` semaphore, whose counter says with one row that a tree is complete: it cannot tell
failed from running, nor how far a tree is, and needs a row more per event (measured: ``docs/bench-hive.md``).
Not a recursive query: beyond 1,000 levels MariaDB leaves the rest out without an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, literal_column, or_, select, union_all

from event_hooks.hive.sql.tables import is_in, job, semaphore

FINISHED = frozenset({"DONE", "PASSED_ON"})
"""Statuses that stay; FAILED is final only until a person resets the job."""

NOT_STARTED = frozenset({"SEMAPHORED", "READY"})
"""Statuses of jobs that nobody has begun."""

NOT_RUNNING = FINISHED | NOT_STARTED | {"FAILED"}
"""Statuses of jobs that nobody works on."""

MAX_IDS_PER_STATEMENT = 25_000
"""Jobs named in one statement. Above some 36,000, MySQL 8 would read the whole table instead."""

MIN_RANGE_LENGTH = 100
"""Ids in sequence from which on they are named as a range."""


class State(StrEnum):
    """What a job and its tree have come to. Only COMPLETE is success."""

    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    STOPPED = "stopped"
    MISSING = "missing"


@dataclass(eq=False)
class JobTree:
    """A submitted job (the entry) and all that grew from it, as they were when last read."""

    entry: int
    statuses: dict[int, str] = field(default_factory=dict)
    """``{job_id: job.status}``, the entry first, a job before its children."""

    result_ids: list[int] = field(default_factory=list)
    """The jobs that a result may stand under: the entry, and what took over when eHive passed it on."""

    gone: set[int] = field(default_factory=set)
    """Jobs that were deleted before they were over."""

    unsettled: set[int] = field(default_factory=set)
    """Jobs to ask for again: not over, or their children not read since."""

    shared: set[int] = field(default_factory=set)
    """Jobs that hold back a funnel of another tree."""

    own_semaphore: int | None = None
    """The semaphore that the entry itself controls: what that holds back is not the entry's doing."""

    def state(self) -> State:
        """
        Give what the statuses come to.

        A job that is SEMAPHORED beside a FAILED one will never run; without one it still may.
        """
        statuses = set(self.statuses.values())
        if self.entry not in self.statuses:
            return State.MISSING
        if statuses - {"SEMAPHORED", "DONE", "FAILED", "PASSED_ON"}:
            return State.RUNNING
        if "FAILED" in statuses:
            return State.FAILED
        if "SEMAPHORED" in statuses:
            return State.RUNNING
        return State.MISSING if self.gone else State.COMPLETE

    def with_status(self, *statuses: str) -> list[int]:
        """Give the jobs that have one of these statuses, a job before its children."""
        return [job_id for job_id, status in self.statuses.items() if status in statuses]

    def count(self, *statuses: str) -> int:
        """Count the jobs that have one of these statuses."""
        return sum(status in statuses for status in self.statuses.values())


class JobForest:
    """
    The trees of one hive that somebody waits for.

    :param whole: a single look reads also what unfinished jobs below the entries have made.
    :param borrows: a tree has the funnels of other trees that it uses.
    """

    def __init__(self, *, whole: bool = False, borrows: bool = True) -> None:
        self._whole = whole
        self._borrows = borrows
        self.trees: dict[int, JobTree] = {}
        self.analyses: dict[int, int] = {}
        """``{job_id: analysis_id}`` of all jobs."""

        self._owners: dict[int, list[JobTree]] = {}
        self._statuses: dict[int, str | None] = {}

    def look(self, connection: Connection, entries: Iterable[int]) -> set[JobTree]:
        """
        Bring the trees of these entries up to date; unknown ones are new.

        Costs at most one statement a level for each 25,000 jobs that are unsettled there.

        :param connection: in autocommit mode, so that each statement sees what is committed by then.
        :return: the trees that have changed.
        """
        changed: set[JobTree] = set()
        ids = {job_id for entry in entries for job_id in self._tree(entry).unsettled}
        # A job that nobody works on has no children, but it may be over by now: entries are asked at once.
        parents = {
            job_id for job_id in ids if job_id in self.trees or self._statuses[job_id] not in NOT_STARTED
        }
        seen: set[int] = set()
        while ids or parents:
            seen |= parents
            rows = _rows(connection, ids, parents)
            self._miss(ids.difference([row[0] for row in rows]), changed)
            news = [row for row in rows if self._statuses.get(row[0]) != row[2] or row[1] in parents]
            self._take(news, changed)
            ids = self._leeched(news)
            parents = self._settle(seen, [*(row.job_id for row in news), *parents])
        return changed

    def use(self, entry: int, funnel: int) -> bool:
        """Let a tree have a job that stands in another tree, unless it has it; tell whether it is new."""
        tree = self.trees[entry]
        if funnel in tree.statuses or funnel in tree.gone:
            return False
        self._plant(tree, funnel)
        return True

    def doubt(self, job_id: int) -> None:
        """Ask for a job again that was over: a person may have reset it."""
        for tree in self._owners.get(job_id, ()):
            tree.unsettled.add(job_id)

    def forget(self, entry: int) -> None:
        """Leave a tree alone from now on."""
        tree = self.trees.pop(entry, None)
        for job_id in {*tree.statuses, *tree.unsettled} if tree else ():
            owners = self._owners.get(job_id, [])
            if tree in owners:
                owners.remove(tree)
            if not owners:
                for known in (self._owners, self._statuses, self.analyses):
                    known.pop(job_id, None)

    def _tree(self, entry: int) -> JobTree:
        if entry not in self.trees:
            self.trees[entry] = JobTree(entry, result_ids=[entry])
            self._plant(self.trees[entry], entry)
        return self.trees[entry]

    def _plant(self, tree: JobTree, job_id: int) -> None:
        tree.unsettled.add(job_id)
        self._owners.setdefault(job_id, []).append(tree)
        self._statuses[job_id] = None  # to this tree it is news, whatever others know

    def _take(self, rows: Iterable[Any], changed: set[JobTree]) -> None:
        """Note what was read: first how known jobs are, then which are new, since order is not promised."""
        for job_id, _, status, analysis_id, semaphore_id, _ in rows:
            self._statuses[job_id] = status
            self.analyses[job_id] = analysis_id
            if job_id in self.trees:
                self.trees[job_id].own_semaphore = semaphore_id
            for tree in self._owners.get(job_id, ()):
                if tree.statuses.get(job_id) != status:
                    tree.statuses[job_id] = status
                    changed.add(tree)
                    if status not in FINISHED:
                        tree.unsettled.add(job_id)
        for job_id, parent, status, *_ in rows:
            for tree in self._owners.get(parent, ()):
                if tree not in self._owners.get(job_id, ()):
                    self._plant(tree, job_id)
                    self._statuses[job_id] = tree.statuses[job_id] = status
                    changed.add(tree)
                took_over = parent in tree.result_ids and tree.statuses.get(parent) == "PASSED_ON"
                if took_over and job_id not in tree.result_ids:
                    tree.result_ids.append(job_id)

    def _miss(self, job_ids: Iterable[int], changed: set[JobTree]) -> None:
        for job_id in job_ids:
            self._statuses.pop(job_id)
            self.analyses.pop(job_id, None)
            for tree in self._owners.pop(job_id):
                tree.statuses.pop(job_id, None)
                tree.unsettled.discard(job_id)
                tree.gone.add(job_id)
                changed.add(tree)

    def _leeched(self, rows: Iterable[Any]) -> set[int]:
        """
        Give the funnels that hold new jobs back and stand in another tree.

        On stock tables an equal funnel is used instead of a second one; its parent is where it was made. What
        such a funnel holds back in its turn is the other tree's doing.
        """
        found = set()
        for job_id, parent, _, _, semaphore_id, funnel in rows:
            for tree in self._owners.get(parent, ()) if funnel is not None else ():
                if semaphore_id == tree.own_semaphore or funnel in tree.statuses:
                    continue
                tree.shared.add(job_id)
                if self._borrows and self.use(tree.entry, funnel):
                    found.add(funnel)
        return found

    def _settle(self, seen: set[int], candidates: Iterable[int]) -> set[int]:
        """Settle what is over and has its children read; give those of the rest that may have some."""
        unread = set()
        for job_id in candidates:
            for tree in self._owners.get(job_id, ()):
                status = tree.statuses.get(job_id)
                is_finished = status in FINISHED or status == "FAILED"
                if job_id not in tree.unsettled or not (is_finished or self._whole):
                    continue
                if job_id not in seen:
                    unread.add(job_id)
                elif status in FINISHED:
                    tree.unsettled.discard(job_id)
        return unread


def _rows(connection: Connection, ids: Iterable[int], parents: Iterable[int]) -> list[Any]:
    """
    Read jobs, and the children of jobs, each with the job that its semaphore holds back.

    A job's children are read in the same statement, so the same snapshot, or in a later one: if it is shown
    as over, all its children are there.
    """
    own, above = sorted(ids), sorted(parents)
    found: list[Any] = []
    for start in range(0, len(own) + len(above), MAX_IDS_PER_STATEMENT):
        some = own[start : start + MAX_IDS_PER_STATEMENT]
        more = above[max(0, start - len(own)) : max(0, start + MAX_IDS_PER_STATEMENT - len(own))]
        named = ((job.c.job_id, some), (job.c.prev_job_id, more))
        parts = [_SHOWN.where(which) for key, ids in named for which in _named(key, ids)]
        found.extend(connection.execute(parts[0] if len(parts) == 1 else union_all(*parts)).all())
    return found


def _named(key: ColumnElement[Any], ids: Sequence[int]) -> Iterator[ColumnElement[bool]]:
    """Name jobs: those made together, whose ids follow each other, by their range, which is read faster."""
    ranges: list[ColumnElement[bool]] = []
    others: list[int] = []
    start = 0
    for end in range(1, len(ids) + 1):
        if end < len(ids) and ids[end] == ids[end - 1] + 1:
            continue
        if end - start < MIN_RANGE_LENGTH:
            others.extend(ids[start:end])
        else:
            first, last = str(ids[start]), str(ids[end - 1])
            ranges.append(key.between(literal_column(first), literal_column(last)))
        start = end
    if ranges:
        yield or_(*ranges)
    if others:  # a part of its own: MariaDB reads a long list slowly if it stands beside an OR
        yield is_in(key, others)


_SHOWN = select(
    job.c.job_id,
    job.c.prev_job_id,
    job.c.status,
    job.c.analysis_id,
    job.c.controlled_semaphore_id,
    semaphore.c.dependent_job_id,
).select_from(job.outerjoin(semaphore, semaphore.c.semaphore_id == job.c.controlled_semaphore_id))


def read(connection: Connection, entries: Sequence[int], *, borrows: bool = True) -> Mapping[int, JobTree]:
    """Read the trees of these jobs, once and whole: ``{entry: tree}``, also for those without a row."""
    forest = JobForest(whole=True, borrows=borrows)
    forest.look(connection, entries)
    return forest.trees
