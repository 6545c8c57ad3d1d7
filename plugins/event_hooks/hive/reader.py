"""
Read changes of job trees and stalls from one hive over one connection.

All functions block; the poller calls them in one thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import Connection, QueuePool, inspect

from event_hooks.database_url import EngineArgs, make_engine
from event_hooks.hive.connection import describe_hive_url, resolve_hive
from event_hooks.hive.hook import HiveHook, translate_errors
from event_hooks.hive.sql import diagnosis, outcomes
from event_hooks.hive.sql.diagnosis import Stall, StallCandidate
from event_hooks.hive.sql.inputs import find_foreign_jobs
from event_hooks.hive.sql.job_trees import DONE_STATUSES, NOT_STARTED_STATUSES, JobForest, JobState, JobTree
from event_hooks.hive.sql.outcomes import JobOutcome
from event_hooks.hive.sql.tables import job_progress, result

NOT_FOUND_SECONDS = 60.0
"""How long a job that was never read may have no row before it is MISSING: a replica of the hive may lag."""


MAX_BYTES_PER_READ = 32 * 2**20
"""Bytes of results that one read returns, because of the triggerer's memory; the next read continues."""


@dataclass(frozen=True)
class JobProgress:
    """Progress of the tree of a submitted job."""

    job_id: int
    """The submitted job, the root of the tree."""

    done: int
    """Jobs with the status DONE or PASSED_ON."""

    total: int
    """Jobs found so far; running jobs can create more."""

    failed: int
    message: str | None
    """The newest message in the hive's table ``job_progress`` for this tree; ``None`` without one."""

    is_started: bool
    """Whether a worker has started any job of the tree."""


@dataclass
class HiveChanges:
    """Changes that one poll of a hive found."""

    progress: list[JobProgress] = field(default_factory=list)
    """Progress of unfinished trees that changed."""

    outcomes: list[JobOutcome] = field(default_factory=list)
    """Outcomes of trees that finished."""

    stalls: list[Stall] = field(default_factory=list)
    is_partial: bool = False
    """Whether further trees have finished, and the next read returns their outcomes."""

    is_stall_check: bool = False
    """Whether ``stalls`` is the complete list of present stalls."""

    message: str | None = None
    """Log line that the hive is unavailable, with the reason, or that it is available again."""


class Wait(NamedTuple):
    """The unfinished jobs of a wait at one moment."""

    job_ids: frozenset[int]
    waited: float
    """Seconds waited for the jobs."""

    ready_timeout: float
    """Seconds until a READY job is stalled."""


class HiveReader:
    """
    Read job trees of one hive repeatedly, and return the changes since the previous read.

    The reader keeps one connection and the trees in memory.

    :param hive_conn_id: connection id of the hive, for error messages.
    :param engine_args: result of ``resolve_hive`` or ``resolve_hive_async``.
    """

    def __init__(self, hive_conn_id: str, engine_args: EngineArgs) -> None:
        self.hive_conn_id = hive_conn_id
        self._url = describe_hive_url(hive_conn_id)
        self._engine = make_engine(
            engine_args,
            isolation_level="AUTOCOMMIT",
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=True,
            pool_reset_on_return=None,
            query_cache_size=0,  # statements contain thousands of job ids, and are never repeated
        )
        self._forest = JobForest()
        self._changed_at: dict[int, float] = {}
        self._unchanged_roots: set[int] = set()
        self._tables: set[str] = set()
        self._checked_tokens: dict[int, str | None] = {}
        self._not_found_since: dict[int, float] = {}

    def read_changes(
        self,
        removed_ids: Collection[int],
        jobs: Mapping[int, str | None],
        *,
        is_final: bool = False,
        has_results: bool = True,
    ) -> HiveChanges:
        """
        Return progress and outcomes of the trees of submitted jobs since the previous read.

        A job whose input lacks the expected token is MISSING. This is checked when the job is read for the
        first time, and again when its tree is finished, after all other statements.

        :param removed_ids: submitted jobs; their trees are removed from memory first.
        :param jobs: submitted jobs to read: ``{job_id: token}``, a text that the job's input contains;
            ``None`` means that the input is not checked.
        :param is_final: whether no read follows, so that a job without a row is MISSING at once.
        :param has_results: whether the outcomes have the results of the jobs.
        :raises HiveUnreachable: the hive did not answer in time.
        :raises HiveRejected: the hive cannot be read.
        """
        self._remove_trees(removed_ids)
        for job_id in removed_ids:
            self._not_found_since.pop(job_id, None)
        with translate_errors(self.hive_conn_id), self._engine.connect() as connection:
            tables = self._load_tables(connection)
            outcome_tables = tables if has_results else tables - {result.name}
            max_bytes = math.inf if is_final else MAX_BYTES_PER_READ
            changed, finished, is_partial = outcomes.refresh_outcomes(
                connection, self._forest, jobs, outcome_tables, max_bytes=max_bytes
            )
            self._mark_changed({tree.root_id for tree in changed})
            running = [tree for tree in changed if tree.state() is JobState.RUNNING]
            has_messages = bool(running) and job_progress.name in tables
            messages = outcomes.load_progress_messages(connection, running) if has_messages else {}
            foreign_ids = self._find_foreign_jobs(connection, jobs, {outcome.job_id for outcome in finished})
        awaited_ids = set() if is_final else self._find_awaited_jobs(jobs)
        self._remove_trees(foreign_ids | awaited_ids)
        return HiveChanges(
            [_build_progress(tree, messages) for tree in running if tree.root_id not in foreign_ids],
            [
                *(outcome for outcome in finished if outcome.job_id not in foreign_ids | awaited_ids),
                *map(self._build_foreign_outcome, sorted(foreign_ids)),
            ],
            is_partial=is_partial,
        )

    def find_stalls_of_waits(self, waits: Sequence[Wait], min_seconds: float) -> list[HiveChanges]:
        """
        Return the stalls of each wait, in the order of the waits.

        :param min_seconds: as in :meth:`find_stalls`, like the errors.
        """
        wait_times: dict[int, tuple[float, float]] = {}
        for wait in waits:
            wait_times.update(dict.fromkeys(wait.job_ids, (wait.waited, wait.ready_timeout)))
        stalls = self.find_stalls(wait_times, min_seconds).stalls
        parts = ([stall.for_roots(wait.job_ids) for stall in stalls] for wait in waits)
        return [HiveChanges(stalls=list(filter(None, part)), is_stall_check=True) for part in parts]

    def find_stalls(self, wait_times: Mapping[int, tuple[float, float]], min_seconds: float) -> HiveChanges:
        """
        Return the stalls of trees that have not changed for some time; errors as in :meth:`read_changes`.

        :param wait_times: ``{root id: (seconds waited for it, seconds until a READY job is stalled)}``; roots
            that were never read are ignored.
        :param min_seconds: seconds without a change after which a tree is checked.
        """
        candidates = self._find_stall_candidates(wait_times, min_seconds)
        if not candidates:
            return HiveChanges(is_stall_check=True)
        with translate_errors(self.hive_conn_id), self._engine.connect() as connection:
            tables = self._load_tables(connection)
            stalls = diagnosis.find_stalls(
                connection, candidates, self._forest.analysis_ids, tables, self._url
            )
        return HiveChanges(stalls=stalls, is_stall_check=True)

    def read_final_outcomes(
        self,
        jobs: Mapping[int, str | None],
        waited: float,
        ready_timeout: float,
        *,
        has_results: bool = True,
    ) -> list[JobOutcome]:
        """
        Return an outcome for each submitted job at the end of a wait; errors as in :meth:`read_changes`.

        The outcome of an unfinished job is RUNNING; its error names the progress, and the stall if any.

        :param jobs: as in :meth:`read_changes`, like ``has_results``.
        :param waited: seconds waited for the jobs.
        :param ready_timeout: seconds until a READY job is stalled.
        """
        changes = self.read_changes((), jobs, is_final=True, has_results=has_results)
        finished = {outcome.job_id: outcome for outcome in changes.outcomes}
        stalls = {
            root_id: str(stall)
            for stall in self.find_stalls(dict.fromkeys(jobs, (waited, ready_timeout)), 0).stalls
            for root_id in stall.stalled_jobs
        }
        return [
            finished.get(root_id) or self._build_unfinished_outcome(root_id, stalls.get(root_id))
            for root_id in jobs
        ]

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()

    def _remove_trees(self, root_ids: Collection[int]) -> None:
        for root_id in root_ids:
            self._forest.remove(root_id)
            self._changed_at.pop(root_id, None)
            self._unchanged_roots.discard(root_id)
            self._checked_tokens.pop(root_id, None)

    def _find_foreign_jobs(
        self, connection: Connection, jobs: Mapping[int, str | None], finished_ids: Collection[int]
    ) -> set[int]:
        """Return the jobs that lack their token, of those that are finished or were not checked yet."""
        trees = self._forest.trees
        existing = {job_id: token for job_id, token in jobs.items() if job_id in trees[job_id].statuses}
        unchecked = {
            job_id: token
            for job_id, token in existing.items()
            if job_id in finished_ids or self._checked_tokens.get(job_id) != token
        }
        self._checked_tokens |= existing
        return find_foreign_jobs(connection, unchecked)

    def _find_awaited_jobs(self, jobs: Iterable[int]) -> set[int]:
        """Return the jobs without a row that were never read and may still appear."""
        now = time.monotonic()
        return {
            job_id
            for job_id in jobs
            if job_id not in self._checked_tokens
            and now - self._not_found_since.setdefault(job_id, now) < NOT_FOUND_SECONDS
        }

    def _build_foreign_outcome(self, job_id: int) -> JobOutcome:
        error = (
            f"job {job_id} of hive {self.hive_conn_id!r} is another job: its input lacks the token of this"
            " event. The hive was created again, or its connection leads to another database"
        )
        return JobOutcome(job_id, JobState.MISSING, error=error)

    def _load_tables(self, connection: Connection) -> set[str]:
        """Return the table names; they are cached once ``result`` exists, which a pipeline creates."""
        if result.name not in self._tables:
            self._tables = set(inspect(connection).get_table_names())
        return self._tables

    def _mark_changed(self, root_ids: set[int]) -> None:
        new_ids = root_ids - self._changed_at.keys()
        self._unchanged_roots = (self._unchanged_roots - root_ids) | new_ids
        self._changed_at.update(dict.fromkeys(root_ids, time.monotonic()))

    def _find_stall_candidates(
        self, wait_times: Mapping[int, tuple[float, float]], min_seconds: float
    ) -> list[StallCandidate]:
        now = time.monotonic()
        candidates = []
        for root_id, (waited, ready_timeout) in wait_times.items():
            tree = self._forest.trees.get(root_id)
            if tree is None:
                continue
            seconds = now - self._changed_at.get(root_id, now)
            if root_id in self._unchanged_roots and tree.statuses == {root_id: "READY"}:
                # A job that was READY at the first read was READY during the whole wait before it.
                seconds = max(seconds, waited)
            if seconds >= min_seconds:
                candidates.append(StallCandidate(tree, seconds, ready_timeout))
        return candidates

    def _build_unfinished_outcome(self, root_id: int, stall: str | None) -> JobOutcome:
        progress = _build_progress(self._forest.trees[root_id], {})
        error = f"not finished in time: {progress.done} of {progress.total} jobs are done"
        if progress.failed:
            error += f", {progress.failed} failed"
        return JobOutcome(root_id, JobState.RUNNING, error=f"{error}. {stall}" if stall else error)


def _build_progress(tree: JobTree, messages: Mapping[int, str]) -> JobProgress:
    return JobProgress(
        job_id=tree.root_id,
        done=tree.count_by_status(*DONE_STATUSES),
        total=len(tree.statuses),
        failed=tree.count_by_status("FAILED"),
        message=messages.get(tree.root_id),
        is_started=not NOT_STARTED_STATUSES.issuperset(tree.statuses.values()),
    )


def read_final_outcomes(
    hook: HiveHook,
    jobs: Mapping[int, str | None],
    waited: float = 0,
    ready_timeout: float = math.inf,
    *,
    has_results: bool = True,
) -> list[JobOutcome]:
    """Read jobs once, and return :meth:`HiveReader.read_final_outcomes` of them."""
    reader = HiveReader(hook.hive_conn_id, hook.engine_args or resolve_hive(hook.hive_conn_id))
    try:
        return reader.read_final_outcomes(jobs, waited, ready_timeout, has_results=has_results)
    finally:
        reader.close()
