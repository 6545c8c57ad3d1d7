"""One hive, seen again and again over one connection; all of it runs in one thread, and blocks it."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import URL, Connection, QueuePool, create_engine, inspect

from event_hooks.hive.hook import translate_errors
from event_hooks.hive.sql import diagnosis, outcomes
from event_hooks.hive.sql.diagnosis import Stall, StallCandidate
from event_hooks.hive.sql.job_trees import FINISHED, NOT_STARTED, JobForest, JobTree, State
from event_hooks.hive.sql.outcomes import JobOutcome
from event_hooks.hive.sql.tables import job_progress, result


@dataclass(frozen=True)
class Progress:
    """How far the tree of a submitted job is."""

    job_id: int
    done: int
    total: int
    """Jobs known so far: a tree grows while it is worked on."""

    failed: int
    message: str | None
    """The newest of the hive's table ``job_progress`` about it."""

    is_started: bool
    """Whether a worker has taken any of its jobs."""


@dataclass
class HiveChanges:
    """What one look has brought, for those who wait."""

    progress: list[Progress] = field(default_factory=list)
    outcomes: list[JobOutcome] = field(default_factory=list)
    stalls: list[Stall] = field(default_factory=list)
    is_stall_check: bool = False
    """Whether the troubles are all that there are now."""

    word: str | None = None
    """That the hive does not answer, and why; or that it does again."""


class HiveReader:
    """
    Look at one hive, and remember what was seen.

    :param hive: its connection id, in messages.
    :param place: URL and options of the driver, as ``resolve_hive_async`` gives them.
    """

    def __init__(self, hive: str, place: tuple[URL, dict[str, Any]]) -> None:
        self.hive = hive
        url, options = place
        # As eHive takes it: without the "file:" by which resolve_hive keeps SQLite from making files.
        plain = url.set(drivername=url.get_backend_name(), database=_path(url), query={})
        self._url = plain.render_as_string(hide_password=True)
        self._engine = create_engine(
            url,
            connect_args=options,
            isolation_level="AUTOCOMMIT",
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=True,
            pool_reset_on_return=None,
            hide_parameters=True,
            query_cache_size=0,  # the statements name thousands of jobs, and none comes twice
        )
        self._forest = JobForest()
        self._changed_at: dict[int, float] = {}
        self._as_first_seen: set[int] = set()
        self._tables: set[str] = set()

    def look(self, left: Collection[int], entries: Collection[int]) -> HiveChanges:
        """
        Give what is new of the trees of these jobs.

        :param left: jobs that nobody waits for any longer.
        :raises HiveUnreachable: nobody answered, or not in time.
        :raises HiveRejected: the hive cannot be read.
        """
        self._forget(left)
        with translate_errors(self.hive), self._engine.connect() as connection:
            tables = self._known_tables(connection)
            changed, over = outcomes.look(connection, self._forest, entries, tables)
            self._note_changes({tree.entry for tree in changed})
            going_on = [tree for tree in changed if tree.state() is State.RUNNING]
            messages = (
                outcomes.progress(connection, going_on) if going_on and job_progress.name in tables else {}
            )
        return HiveChanges([_progress(tree, messages) for tree in going_on], over)

    def diagnose(self, limits: Mapping[int, tuple[float, float]], least: float) -> HiveChanges:
        """
        Give what holds up trees that have not changed for some time.

        :param limits: ``{entry: (seconds waited for it, seconds until READY is too long)}``.
        :param least: seconds without a change from which on a tree is looked at.
        """
        now = time.monotonic()
        suspects = []
        for entry, (waited, limit) in limits.items():
            tree = self._forest.trees.get(entry)
            if tree is None:
                continue
            seconds = now - self._changed_at.get(entry, now)
            if entry in self._as_first_seen and tree.statuses == {entry: "READY"}:
                seconds = max(seconds, waited)  # it was so before we came, too
            if seconds >= least:
                suspects.append(StallCandidate(tree, seconds, limit))
        if not suspects:
            return HiveChanges(is_stall_check=True)
        with translate_errors(self.hive), self._engine.connect() as connection:
            tables = self._known_tables(connection)
            found = diagnosis.find(connection, suspects, self._forest.analyses, tables, self._url)
        return HiveChanges(stalls=found, is_stall_check=True)

    def verdicts(self, entries: Sequence[int], limit: float) -> list[JobOutcome]:
        """
        Give how each of these jobs stands; one that is not over is RUNNING, with what holds it up.

        Errors as of :meth:`look`.

        :param limit: seconds until READY is too long.
        """
        over = {outcome.job_id: outcome for outcome in self.look((), entries).outcomes}
        stalled_jobs = {
            entry: str(stall)
            for stall in self.diagnose(dict.fromkeys(entries, (math.inf, limit)), 0).stalls
            for entry in stall.stalled_jobs
        }
        return [over.get(entry) or self._unfinished(entry, stalled_jobs.get(entry)) for entry in entries]

    def _unfinished(self, entry: int, stall: str | None) -> JobOutcome:
        progress = _progress(self._forest.trees[entry], {})
        reason = f"not over in time: {progress.done} of {progress.total} jobs are done"
        if progress.failed:
            reason += f", {progress.failed} failed"
        return JobOutcome(entry, State.RUNNING, error=f"{reason}. {stall}" if stall else reason)

    def _forget(self, entries: Collection[int]) -> None:
        for entry in entries:
            self._forest.forget(entry)
            self._changed_at.pop(entry, None)
            self._as_first_seen.discard(entry)

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()

    def _note_changes(self, entries: set[int]) -> None:
        new = entries - self._changed_at.keys()
        self._as_first_seen = (self._as_first_seen - entries) | new
        self._changed_at.update(dict.fromkeys(entries, time.monotonic()))

    def _known_tables(self, connection: Connection) -> set[str]:
        if result.name not in self._tables:  # a pipeline may make it later
            self._tables = set(inspect(connection).get_table_names())
        return self._tables


def _path(url: URL) -> str:
    return (url.database or "").removeprefix("file:")


def _progress(tree: JobTree, messages: Mapping[int, str]) -> Progress:
    return Progress(
        tree.entry,
        tree.count(*FINISHED),
        len(tree.statuses),
        tree.count("FAILED"),
        messages.get(tree.entry),
        not NOT_STARTED.issuperset(tree.statuses.values()),
    )
