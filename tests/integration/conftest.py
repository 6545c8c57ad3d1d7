"""Real servers: a new hive, a new exchange for each test."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, create_engine, inspect, text

from tests.support.practice_hive import tables
from tests.support.practice_hive.database import parse
from tests.support.practice_hive.worker import Worker


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here, so that `-m "not integration"` leaves it out."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("integration")


KEPT = {"hive_meta", "analysis_base", "analysis_stats", "resource_class", "resource_description"}
"""Tables of a hive that a pipeline has before its first job."""


class PracticeHive:
    """A hive with its connection id, and a look behind the scenes."""

    def __init__(self, conn_id: str, url: str) -> None:
        self.conn_id = conn_id
        self.url = url
        self.engine: Engine = create_engine(parse(url))

    def rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Give the rows of a SELECT."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement), values)]

    def change(self, statement: str, **values: Any) -> None:
        """Do what a person, or eHive, might do to the hive."""
        with self.engine.begin() as connection:
            connection.execute(text(statement), values)

    def add_job(self, **columns: Any) -> int:
        """Insert a job as it stands, unannounced."""
        names = {"input_id": f'{{"n" => "{uuid4()}"}}', "param_id_stack": "", "accu_id_stack": ""} | columns
        names.setdefault("analysis_id", 1)
        statement = f"INSERT INTO job ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})"
        with self.engine.begin() as connection:
            return int(connection.execute(text(statement), names).lastrowid)

    def add_semaphore(self, semaphore_id: int, dependent_job_id: int) -> None:
        """Insert a semaphore that one job controls."""
        self.change(
            "INSERT INTO semaphore (semaphore_id, local_jobs_counter, remote_jobs_counter, dependent_job_id)"
            " VALUES (:id, 1, 0, :dependent)",
            id=semaphore_id,
            dependent=dependent_job_id,
        )

    def wipe(self) -> None:
        """Take out all jobs, with all that is known of them, and who worked on them."""
        with self.engine.begin() as connection:
            connection.execute(text("SET FOREIGN_KEY_CHECKS = 0"))
            for name in set(inspect(self.engine).get_table_names()) - KEPT:
                connection.execute(text(f"DELETE FROM `{name}`"))
            counts = ("total", "semaphored", "ready", "done", "failed")
            zero = ", ".join(f"{name}_job_count = 0" for name in counts)
            connection.execute(text(f"UPDATE analysis_stats SET status = 'EMPTY', {zero}"))
            connection.execute(text("SET FOREIGN_KEY_CHECKS = 1"))

    def work(self) -> None:
        """Do the jobs that the hive's statistics tell of, until there are none."""
        with Worker(self.url) as worker:
            worker.work_until_idle()

    def stats(self, analysis: str = "event_dump_dna") -> tuple[Any, ...]:
        """Give status, total and ready jobs, as the beekeeper reads them."""
        (row,) = self.rows(
            "SELECT status, total_job_count, ready_job_count FROM analysis_stats"
            " JOIN analysis_base USING (analysis_id) WHERE logic_name = :analysis",
            analysis=analysis,
        )
        return row

    def transaction(self) -> Connection:
        """Open a transaction that the test ends."""
        return self.engine.connect()


@pytest.fixture(scope="session")
def mysql_url() -> str:
    """The address of MariaDB or MySQL, with its administrator."""
    return os.environ["MYSQL_URL"].rstrip("/")


@pytest.fixture
def sqlite_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: each small transaction of SQLite waits for the disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


MakeHive = Callable[..., PracticeHive]


@contextmanager
def hives_made(mysql_url: str, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[MakeHive]:
    """Give a function that makes a new hive, and drop what it has made."""
    made: list[PracticeHive] = []
    numbers = itertools.count()

    def make(server: str = "mysql", **options: Any) -> PracticeHive:
        name = f"hive_{uuid4().hex}"
        url = f"{mysql_url}/{name}" if server == "mysql" else f"sqlite:///{folder}/{name}.sqlite"
        conn_id = f"hive_test_{next(numbers)}"
        tables.create(url, **options)
        patch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", url)
        made.append(PracticeHive(conn_id, url))
        return made[-1]

    yield make
    for hive in made:
        if hive.url.startswith("mysql"):
            hive.change(f"DROP DATABASE `{hive.url.rpartition('/')[2]}`")
        hive.engine.dispose()


@pytest.fixture
def make_hive(mysql_url: str, sqlite_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeHive]:
    """Give a function that makes a new hive: ``make_hive("mysql" or "sqlite", variant=…, triggers=…)``."""
    with hives_made(mysql_url, sqlite_folder, monkeypatch) as make:
        yield make


@pytest.fixture(params=["mysql", "sqlite"])
def hive(request: pytest.FixtureRequest, make_hive: Callable[..., PracticeHive]) -> PracticeHive:
    """A new hive with eHive's stock tables."""
    return make_hive(request.param)
