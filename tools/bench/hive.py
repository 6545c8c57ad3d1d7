"""
Benchmark of a hive with many jobs, on the MariaDB of MYSQL_URL.

The server counts the SQL statements (``userstat``).
"""

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from unittest import mock
from uuid import uuid4

from sqlalchemy import Connection, create_engine

from event_hooks.hive import perl
from event_hooks.hive.connection import resolve_hive
from event_hooks.hive.hook import HiveHook
from event_hooks.hive.reader import HiveReader
from event_hooks.hive.sql.job_trees import JobState
from tests.support.practice_hive import tables
from tests.support.practice_hive.database import parse_url
from tools.bench.environment import count_user_statements, hive_user
from tools.bench.measurement import Measurement

if TYPE_CHECKING:
    from event_hooks.hive.sql.outcomes import JobOutcome

ANALYSIS = "event_dump_dna"
FAN_JOBS = 8
TREE_JOBS = FAN_JOBS + 2


@dataclass(frozen=True)
class Step:
    """
    The cost of one step.

    :param statements: SQL statements that the hive received.
    :param max_seconds: None for no limit; ``max_statements`` likewise.
    """

    name: str
    seconds: float
    statements: int
    max_seconds: float | None = None
    max_statements: int | None = None

    @property
    def is_within_limit(self) -> bool:
        """Whether both measurements are within their limits."""
        return all(measurement.is_within_limit() for measurement in self.measurements())

    def measurements(self) -> list[Measurement]:
        """Return the seconds and the number of statements."""
        return [
            Measurement(self.name, self.seconds, "s", at_most=self.max_seconds),
            Measurement(self.name, self.statements, "SQL statements", at_most=self.max_statements),
        ]


class Bench:
    """
    A hive with many jobs.

    :param root: connection of an administrator.
    :param user: the user whose statements are counted.
    :param trees: number of submitted jobs.
    """

    def __init__(self, root: Connection, user: str, trees: int) -> None:
        self.root = root
        self.user = user
        self.trees = trees

    def run(self) -> Iterator[Step]:
        """Yield each step as soon as it is measured."""
        hook, reader = HiveHook("bench"), HiveReader("bench", resolve_hive("bench"))
        count = f"{self.trees:,}"
        inputs = [
            perl.dumps({"event": {"type": "new_assembly", "genome": f"g{index}"}})
            for index in range(self.trees)
        ]
        yield self._measure(f"submit {count} jobs", lambda: hook.submit(ANALYSIS, inputs), 10)
        yield self._measure("submit them again", lambda: hook.submit(ANALYSIS, inputs))
        # The whole input as token: the slowest check.
        jobs: dict[int, str | None] = dict(zip(hook.submit(ANALYSIS, inputs), inputs, strict=True))
        yield from self._measure_unfinished_trees(reader, jobs)
        yield self._measure(f"stop {count} trees", lambda: hook.stop_jobs(jobs))
        yield self._measure("reset them", lambda: hook.reset_jobs(jobs))
        yield from self._measure_finished_trees(reader, jobs)
        reader.close()

    def _measure_unfinished_trees(self, reader: HiveReader, jobs: dict[int, str | None]) -> Iterator[Step]:
        count = f"{self.trees:,}"
        poll = lambda: reader.read_changes((), jobs)  # noqa: E731
        reader.read_changes((), {})  # connects
        yield self._measure_poll(f"first poll of {count} READY jobs", poll, token_checks=1)
        self._add_descendants()
        yield self._measure_poll(f"poll after dataflow to trees of {TREE_JOBS} jobs", poll)
        yield self._measure_poll(f"poll of {count} waiting trees of {TREE_JOBS} jobs without changes", poll)
        yield self._measure("for comparison: `-wrap`, one row per tree", self._read_semaphores)
        self._change(
            "UPDATE job SET status = 'DONE', when_completed = CURRENT_TIMESTAMP"
            " WHERE analysis_id = 2 AND job_id % 2 = 0"
        )
        yield self._measure_poll("poll after half of the fan jobs became DONE", poll)
        wait_times = dict.fromkeys(jobs, (1.0, 1.0))
        yield self._measure("search for stalls in all trees", lambda: reader.find_stalls(wait_times, 0))

    def _measure_finished_trees(self, reader: HiveReader, jobs: dict[int, str | None]) -> Iterator[Step]:
        self._change("UPDATE job SET status = 'DONE', when_completed = CURRENT_TIMESTAMP")
        self._change(
            "INSERT INTO result SELECT job_id, '{\"pieces\": [1, 2]}' FROM job WHERE analysis_id = 1"
        )
        outcomes: list[JobOutcome] = []
        yield self._measure_poll(
            f"poll at which all {self.trees:,} trees finish, with results",
            lambda: outcomes.extend(reader.read_changes((), jobs).outcomes),
            None,
            token_checks=1,
        )
        if [outcome.state for outcome in outcomes] != [JobState.COMPLETE] * self.trees:
            raise RuntimeError(f"expected {self.trees:,} complete trees, not {len(outcomes)} outcomes")

    def _add_descendants(self) -> None:
        """Set the submitted jobs to DONE, and add to each a funnel that waits for a fan of READY jobs."""
        self._change("UPDATE job SET status = 'DONE', when_completed = CURRENT_TIMESTAMP")
        new = "INSERT INTO job (prev_job_id, analysis_id, input_id, status, controlled_semaphore_id)"
        funnel = f"{new} SELECT job_id, 3, CONCAT('f', job_id), 'SEMAPHORED', NULL FROM job ORDER BY job_id"
        self._change(funnel)
        self._change(
            f"INSERT INTO semaphore (local_jobs_counter, dependent_job_id) SELECT {FAN_JOBS}, job_id FROM job"
            " WHERE analysis_id = 3 ORDER BY job_id"
        )
        self._change(
            f"{new} SELECT prev_job_id, 2, CONCAT('p', prev_job_id, '.', seq), 'READY', semaphore_id"
            " FROM job JOIN semaphore ON dependent_job_id = job_id JOIN (WITH RECURSIVE seqs (seq) AS"
            f" (SELECT 1 UNION ALL SELECT seq + 1 FROM seqs WHERE seq < {FAN_JOBS}) SELECT seq FROM seqs) fan"
        )
        self._change("ANALYZE TABLE job, semaphore")

    def _change(self, statement: str) -> None:
        self.root.exec_driver_sql(statement.replace("%", "%%"))

    def _read_semaphores(self) -> None:
        with create_engine(resolve_hive("bench")[0]).connect() as connection:
            ids = ",".join(str(semaphore_id) for semaphore_id in range(1, self.trees + 1))
            is_released = "local_jobs_counter + remote_jobs_counter <= 0"
            connection.exec_driver_sql(
                f"SELECT semaphore_id FROM semaphore WHERE semaphore_id IN ({ids}) AND {is_released}"
            )

    def _measure_poll(
        self,
        name: str,
        operation: Callable[[], object],
        max_seconds: float | None = 1,
        token_checks: int = 0,
    ) -> Step:
        """Measure a poll; its limit is 3 statements, and one per 1,000 trees and level or check of tokens."""
        step = self._measure(name, operation, max_seconds)
        return replace(step, max_statements=3 + (2 + token_checks) * -(-self.trees // 1000))

    def _measure(self, name: str, operation: Callable[[], object], max_seconds: float | None = None) -> Step:
        statements_before = count_user_statements(self.root, self.user)
        started = time.monotonic()
        operation()
        seconds = time.monotonic() - started
        statements = count_user_statements(self.root, self.user) - statements_before
        return Step(name, seconds, statements, max_seconds)


@contextmanager
def bench(server: str, trees: int) -> Iterator[Bench]:
    """Create a hive with a user and the Airflow connection ``bench``; drop both at the end."""
    name = f"bench_{uuid4().hex[:16]}"
    url = f"{server.rstrip('/')}/{name}"
    tables.create(url, analyses=(ANALYSIS,))
    engine = create_engine(parse_url(url), isolation_level="AUTOCOMMIT")
    hive_url = f"mysql://{name}:{name}@{server.rstrip('/').rpartition('@')[2]}/{name}"
    with (
        engine.connect() as root,
        hive_user(root, name),
        mock.patch.dict(os.environ, AIRFLOW_CONN_BENCH=hive_url),
    ):
        gc.collect()
        gc.freeze()  # a garbage collection shall not search the objects of other tests
        try:
            yield Bench(root, name, trees)
        finally:
            gc.unfreeze()


def measure() -> Iterator[Measurement]:
    """Yield each measurement as soon as it is complete."""
    with bench(os.environ["MYSQL_URL"], 10_000) as hive:
        for step in hive.run():
            yield from step.measurements()
