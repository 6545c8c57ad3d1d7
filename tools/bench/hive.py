"""
What event hooks does to a hive with many jobs.

On the MariaDB of MYSQL_URL. The server counts the statements (``userstat``).
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from unittest import mock
from uuid import uuid4

from sqlalchemy import Connection, create_engine

from event_hooks.hive import perl
from event_hooks.hive.connection import resolve_hive
from event_hooks.hive.hook import HiveHook
from event_hooks.hive.reader import HiveReader
from event_hooks.hive.sql.job_trees import State
from tests.support.practice_hive import tables
from tests.support.practice_hive.database import parse
from tools.bench.room import Measured

ANALYSIS = "event_dump_dna"
FAN = 8


@dataclass(frozen=True)
class Step:
    """What one step cost."""

    step: str
    seconds: float
    statements: int
    limit: float | None = None
    """Seconds that it may take at most."""

    most: int | None = None
    """SQL statements that it may take at most."""

    @property
    def is_good(self) -> bool:
        """Whether it kept within its limits."""
        return all(one.is_good for one in self.figures())

    def figures(self) -> list[Measured]:
        """Give both figures."""
        counts = ((self.seconds, "s", self.limit), (self.statements, "SQL statements", self.most))
        return [
            Measured(self.step, value, unit, f"<= {most}" if most else "", most is None or value <= most)
            for value, unit, most in counts
        ]


class Bench:
    """
    A hive with many jobs.

    :param root: connection of an administrator.
    :param user: who the measured statements come from.
    """

    def __init__(self, root: Connection, hive: str, user: str, trees: int) -> None:
        self.root = root
        self.hive = hive
        self.user = user
        self.trees = trees

    def run(self) -> Iterator[Step]:
        """Yield each step, once it is measured."""
        count = f"{self.trees:,}"
        hook, visitor = HiveHook("bench"), HiveReader("bench", resolve_hive("bench"))
        inputs = [
            perl.dumps({"event": {"type": "new_assembly", "genome": f"g{n}"}}) for n in range(self.trees)
        ]
        yield self._measured(f"submit {count} jobs", lambda: hook.submit(ANALYSIS, inputs), 10)
        yield self._measured("submit them again", lambda: hook.submit(ANALYSIS, inputs))
        entries = hook.submit(ANALYSIS, inputs)
        look = lambda: visitor.look((), entries)  # noqa: E731
        visitor.look((), [])  # connects
        yield self._poll(f"first poll of {count} READY jobs", look)
        self._grow()
        yield self._poll(f"poll after they grew to trees of {FAN + 2}", look)
        yield self._poll(f"poll of {count} waiting trees of {FAN + 2}, nothing new", look)
        yield self._measured("for comparison: `-wrap`, one row a tree", self._ask_semaphores)
        self._change("UPDATE job SET status = 'DONE' WHERE analysis_id = 2 AND job_id % 2 = 0")
        yield self._poll("poll after half of the fan jobs became DONE", look)
        yield self._measured(
            "search for troubles in all trees", lambda: visitor.diagnose(self._all(entries), 0)
        )
        yield self._measured(f"stop {count} trees", lambda: hook.stop(entries))
        yield self._measured("let them run again", lambda: hook.reset(entries))
        self._change("UPDATE job SET status = 'DONE'")
        self._change(
            "INSERT INTO result SELECT job_id, '{\"pieces\": [1, 2]}' FROM job WHERE analysis_id = 1"
        )
        ended = []
        yield self._poll(
            f"poll at which all {count} trees end, results included",
            lambda: ended.extend(look().outcomes),
            None,
        )
        if [outcome.state for outcome in ended] != [State.COMPLETE] * self.trees:
            raise RuntimeError(f"expected {count} complete trees, not {len(ended)} outcomes")
        visitor.close()

    def _all(self, entries: list[int]) -> dict[int, tuple[float, float]]:
        return dict.fromkeys(entries, (1.0, 1.0))

    def _grow(self) -> None:
        """Let each entry be DONE, with a funnel that waits for a fan of READY jobs."""
        self._change("UPDATE job SET status = 'DONE'")
        new = "INSERT INTO job (prev_job_id, analysis_id, input_id, status, controlled_semaphore_id)"
        funnel = f"{new} SELECT job_id, 3, CONCAT('f', job_id), 'SEMAPHORED', NULL FROM job ORDER BY job_id"
        self._change(funnel)
        self._change(
            f"INSERT INTO semaphore (local_jobs_counter, dependent_job_id) SELECT {FAN}, job_id FROM job"
            " WHERE analysis_id = 3 ORDER BY job_id"
        )
        self._change(
            f"{new} SELECT prev_job_id, 2, CONCAT('p', prev_job_id, '.', seq), 'READY', semaphore_id"
            f" FROM job JOIN semaphore ON dependent_job_id = job_id JOIN seq_1_to_{FAN}"
        )
        self._change("ANALYZE TABLE job, semaphore")

    def _change(self, statement: str) -> None:
        self.root.exec_driver_sql(statement.replace("%", "%%"))

    def _ask_semaphores(self) -> None:
        with create_engine(resolve_hive("bench")[0]).connect() as connection:
            ids = ",".join(str(number) for number in range(1, self.trees + 1))
            over = "local_jobs_counter + remote_jobs_counter <= 0"
            connection.exec_driver_sql(
                f"SELECT semaphore_id FROM semaphore WHERE semaphore_id IN ({ids}) AND {over}"
            )

    def _poll(self, step: str, deed: Callable[[], object], limit: float | None = 1) -> Step:
        """Measure a poll: at most a second, 3 statements, and one for each 1,000 trees and level."""
        measured = self._measured(step, deed, limit)
        return replace(measured, most=3 + 2 * -(-self.trees // 1000))

    def _measured(self, step: str, deed: Callable[[], object], limit: float | None = None) -> Step:
        before, began = self._statements(), time.monotonic()
        deed()
        return Step(step, time.monotonic() - began, self._statements() - before, limit)

    def _statements(self) -> int:
        columns = "select_commands + update_commands + other_commands"
        asked = f"SELECT {columns} FROM information_schema.user_statistics WHERE user = '{self.user}'"
        return int(self.root.exec_driver_sql(asked).scalar() or 0)


@contextmanager
def bench(server: str, trees: int) -> Iterator[Bench]:
    """Make a hive, dropped at the end, with a user and the Airflow connection ``bench`` of its own."""
    name = f"bench_{uuid4().hex[:16]}"
    url = f"{server.rstrip('/')}/{name}"
    tables.create(url, analyses=(ANALYSIS,))
    engine = create_engine(parse(url), isolation_level="AUTOCOMMIT")
    with engine.connect() as root:
        counted = root.exec_driver_sql("SELECT @@GLOBAL.userstat").scalar()
        root.exec_driver_sql("SET GLOBAL userstat = 1")
        root.exec_driver_sql(f"CREATE USER {name}@'%%' IDENTIFIED BY '{name}'")
        root.exec_driver_sql(f"GRANT SELECT, INSERT, UPDATE ON {name}.* TO {name}@'%%'")
        place = server.rstrip("/").rpartition("@")[2]
        try:
            with mock.patch.dict(os.environ, AIRFLOW_CONN_BENCH=f"mysql://{name}:{name}@{place}/{name}"):
                yield Bench(root, name, name, trees)
        finally:
            root.exec_driver_sql(f"DROP DATABASE {name}")
            root.exec_driver_sql(f"DROP USER {name}@'%%'")
            root.exec_driver_sql(f"SET GLOBAL userstat = {counted}")


def measure() -> Iterator[Measured]:
    """Yield each figure, once it is measured."""
    with bench(os.environ["MYSQL_URL"], 10_000) as hive:
        for one in hive.run():
            yield from one.figures()
