"""Hives that are created again while jobs wait in them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from sqlalchemy import Engine, inspect, text

from tests.faults.changing_lookups import ANALYSES
from tests.support.practice_hive import tables
from tests.support.practice_hive.worker import Worker

JOBS = """
SELECT root.job_id, logic_name, COALESCE(data, input_id) AS input, status, output,
    EXISTS(
        SELECT 1 FROM {database}.job
        WHERE status = 'FAILED' AND (job_id = root.job_id OR prev_job_id = root.job_id)
    ) AS has_failed
FROM {database}.job root JOIN {database}.analysis_base USING (analysis_id)
LEFT JOIN {database}.result USING (job_id)
LEFT JOIN {database}.analysis_data ON input_id = CONCAT('_extended_data_id ', analysis_data_id)
WHERE prev_job_id IS NULL
"""
"""The submitted jobs; a practice job tree without ``pass_on`` has two levels."""


@dataclass(frozen=True)
class HiveJob:
    """
    A submitted job.

    :param generation: of its hive: 0 before the first new creation.
    """

    hive: str
    generation: int
    job_id: int
    logic_name: str
    input: str
    status: str
    output: str | None
    has_failed: bool

    def __str__(self) -> str:
        return f"job {self.job_id} ({self.status}) of {self.hive} generation {self.generation}"


@dataclass
class ChangingHive:
    """
    A hive with a worker. Each new creation moves its tables to another database, which stays for the verdict.

    :ivar created: times of the new creations.
    """

    name: str
    engine: Engine
    created: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def _url(self) -> str:
        return self.engine.url.render_as_string(hide_password=False)

    @property
    def _database(self) -> str:
        return str(self.engine.url.database)

    def start_worker(self) -> None:
        """Start to do the jobs."""
        self._stop = threading.Event()
        worker = Worker(self._url, threads=2, retry_seconds=float("inf"))
        self._thread = threading.Thread(target=worker.run, args=[self._stop])
        self._thread.start()

    def stop_worker(self) -> None:
        """Stop the worker; jobs in RUN become READY."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        self._thread = None

    def create_again(self) -> None:
        """Move all tables to another database, and create new ones, whose job ids start at 1 again."""
        archive = self._archive(len(self.created))
        names = inspect(self.engine).get_table_names()
        moves = ", ".join(f"{self._database}.{name} TO {archive}.{name}" for name in names)
        with self.engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {archive} CHARACTER SET latin1")
            connection.exec_driver_sql(f"RENAME TABLE {moves}")
        self.created.append(time.monotonic())
        tables.create(self._url, analyses=ANALYSES)

    def jobs(self) -> list[HiveJob]:
        """Return the submitted jobs of all generations."""
        return [
            HiveJob(self.name, generation, *row)
            for generation in range(len(self.created) + 1)
            for row in self._read(JOBS, generation)
        ]

    def close(self) -> None:
        """Stop the worker, and drop the databases of the earlier generations."""
        self.stop_worker()
        with self.engine.begin() as connection:
            for generation in range(len(self.created)):
                connection.exec_driver_sql(f"DROP DATABASE {self._archive(generation)}")

    def _archive(self, generation: int) -> str:
        return f"{self._database}_{generation}"

    def _read(self, statement: str, generation: int) -> list[tuple[object, ...]]:
        is_current = generation == len(self.created)
        database = self._database if is_current else self._archive(generation)
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement.format(database=database)))]
