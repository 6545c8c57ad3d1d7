"""Hives for tests: empty databases that consecutive tests reuse."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy
from sqlalchemy import Connection, Engine, create_engine, event, text

from tests.support.practice_hive import tables
from tests.support.practice_hive.database import parse_url
from tests.support.practice_hive.worker import Worker

INITIAL_TABLES = {"hive_meta", "analysis_base", "analysis_stats", "resource_class", "resource_description"}
"""Tables that have rows before the first job of a pipeline."""

FIRST_IDS = {
    "job": 1001,
    "semaphore": 2001,
    "log_message": 3001,
    "analysis_data": 4001,
    "job_progress": 5001,
    "beekeeper": 6001,
    "worker": 7001,
    "role": 8001,
}
"""
``{table: first id}`` in the hives of ``make_hive``.

In a database that another test has used, the ids continue after those of that test, so no test may depend on
particular ids. With these numbers, such a test also fails when it runs alone.
"""

DATA_STATEMENTS = {
    "BEGIN",
    "COMMIT",
    "DELETE",
    "EXPLAIN",
    "INSERT",
    "KILL",
    "ROLLBACK",
    "SELECT",
    "SET",
    "SHOW",
    "UPDATE",
}
"""Statements whose changes ``PracticeHive.wipe`` restores."""


@dataclass(frozen=True)
class InitialState:
    """The content of a new hive's database on MariaDB; ``rows`` has the tables of ``INITIAL_TABLES``."""

    schema: list[str]
    tables: list[str]
    rows: dict[str, list[dict[str, Any]]]

    @classmethod
    def read(cls, engine: Engine) -> InitialState:
        """Return the state of a database."""
        tables = sqlalchemy.inspect(engine).get_table_names()
        with engine.connect() as connection:
            rows = {name: read_rows(connection, name) for name in tables if name in INITIAL_TABLES}
            return cls(read_schema(connection, tables), tables, rows)


def read_rows(connection: Connection, table: str) -> list[dict[str, Any]]:
    """Return all rows of a small table."""
    return [dict(row) for row in connection.execute(text(f"SELECT * FROM `{table}`")).mappings()]


def read_schema(connection: Connection, tables: list[str]) -> list[str]:
    """Return the definitions of the tables and triggers in a database of MariaDB."""
    creations = [str(connection.execute(text(f"SHOW CREATE TABLE `{name}`")).one()[1]) for name in tables]
    triggers = connection.execute(text("SHOW TRIGGERS")).mappings().all()
    statements = [f"{trigger['Trigger']}: {trigger['Statement']}" for trigger in triggers]
    return [re.sub(r" AUTO_INCREMENT=\d+", "", creation) for creation in creations] + statements


class PracticeHive:
    """A hive with its connection id, and direct access to its database."""

    def __init__(self, conn_id: str, url: str, initial: InitialState | None = None) -> None:
        self.conn_id = conn_id
        self.url = url
        self.engine: Engine = create_engine(parse_url(url))
        self.initial = initial

    def fetch_rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement), values)]

    def execute(self, statement: str, **values: Any) -> None:
        """Execute a statement in its own transaction, as a user or eHive does."""
        with self.engine.begin() as connection:
            connection.execute(text(statement), values)

    def add_job(self, **columns: Any) -> int:
        """Insert a job without an update of the statistics, and return its id; a DONE job has completed."""
        names = {"input_id": f'{{"n" => "{uuid4()}"}}', "param_id_stack": "", "accu_id_stack": ""} | columns
        names.setdefault("analysis_id", 1)
        if names.get("status") == "DONE":
            names.setdefault("when_completed", "2026-01-01 00:00:00")
        statement = f"INSERT INTO job ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})"
        with self.engine.begin() as connection:
            return int(connection.execute(text(statement), names).lastrowid)

    def complete_jobs(self, condition: str = "1 = 1", **values: Any) -> None:
        """Set jobs to DONE without an update of the statistics."""
        self.execute(
            f"UPDATE job SET status = 'DONE', when_completed = CURRENT_TIMESTAMP WHERE {condition}", **values
        )

    def add_semaphore(self, semaphore_id: int, dependent_job_id: int) -> None:
        """Insert a semaphore that a single job controls."""
        self.execute(
            "INSERT INTO semaphore (semaphore_id, local_jobs_counter, remote_jobs_counter, dependent_job_id)"
            " VALUES (:id, 1, 0, :dependent)",
            id=semaphore_id,
            dependent=dependent_job_id,
        )

    def wipe(self) -> None:
        """
        Restore the rows of a new hive on MariaDB.

        The next ids are not restored: to lower an AUTO_INCREMENT takes ten times as long as the rest.
        """
        assert self.initial, "only a hive on MariaDB can be wiped"
        other_tables = [name for name in self.initial.tables if name not in INITIAL_TABLES]
        with_rows = " UNION ALL ".join(
            f"SELECT '{name}' FROM DUAL WHERE EXISTS (SELECT 1 FROM `{name}`)" for name in other_tables
        )
        with self.engine.begin() as connection:
            connection.execute(text("SET FOREIGN_KEY_CHECKS = 0"))
            for name in connection.scalars(text(with_rows)).all():
                connection.execute(text(f"DELETE FROM `{name}`"))
            for name, rows in self.initial.rows.items():
                if read_rows(connection, name) != rows:
                    connection.execute(text(f"DELETE FROM `{name}`"))
                    for row in rows:
                        columns = sqlalchemy.table(name, *map(sqlalchemy.column, row))
                        connection.execute(sqlalchemy.insert(columns), row)
            connection.execute(text("SET FOREIGN_KEY_CHECKS = 1"))

    def run_jobs(self) -> None:
        """Do the jobs that the hive's statistics count, until there are none."""
        with Worker(self.url) as worker:
            worker.run_until_idle()

    def fetch_stats(self, analysis: str = "event_dump_dna") -> tuple[Any, ...]:
        """Return (status, number of jobs, number of ready jobs) of an analysis from its statistics."""
        (row,) = self.fetch_rows(
            "SELECT status, total_job_count, ready_job_count FROM analysis_stats"
            " JOIN analysis_base USING (analysis_id) WHERE logic_name = :analysis",
            analysis=analysis,
        )
        return row

    def transaction(self) -> Connection:
        """Open a connection with a transaction, which the test has to end."""
        return self.engine.connect()


MakeHive = Callable[..., PracticeHive]


class HivePool:
    """
    Databases of hives that consecutive tests reuse.

    On MariaDB, to create and drop a database takes about 500 ms, and to wipe it 10 ms. A test therefore gets
    an idle database, and the pool wipes it after the test. The pool drops a database instead if any engine of
    SQLAlchemy has sent it a statement that is not in ``DATA_STATEMENTS``: its tables, triggers or users may
    differ. At its end, the pool checks that it has detected all changes of schemas. On SQLite, each hive is a
    copy of a template.

    :param mysql_url: of the server, with its administrator.
    :param first_ids: ``{table: first id}``, by default 1.
    """

    def __init__(self, mysql_url: str, first_ids: dict[str, int]) -> None:
        self._mysql_url = mysql_url
        self._first_ids = first_ids
        self._databases: dict[str, InitialState] = {}
        self._idle: defaultdict[str, list[str]] = defaultdict(list)
        self._altered: set[str] = set()
        self._templates: dict[str, bytes] = {}

    def __enter__(self) -> HivePool:
        """Start to record the statements of this process."""
        event.listen(Engine, "before_cursor_execute", self._record_statement)
        return self

    def __exit__(self, *_: object) -> None:
        """Check the schemas, and drop all databases."""
        event.remove(Engine, "before_cursor_execute", self._record_statement)
        changed = [url for urls in self._idle.values() for url in urls if self._has_changed(url)]
        for url in list(self._databases):
            self._drop(url)
        assert not changed, f"schemas were changed, and the pool did not notice: {changed}"

    @contextmanager
    def hives(self, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[MakeHive]:
        """Yield the function of the fixture ``make_hive``, and return its hives to the pool at the end."""
        hives: list[tuple[str, PracticeHive]] = []

        def make(server: str = "mysql", **options: Any) -> PracticeHive:
            arguments = inspect.signature(tables.create).bind("", **options)
            arguments.apply_defaults()
            key = repr(arguments)
            acquire = self._acquire_database if server == "mysql" else self._copy_template
            url = acquire(key, options, folder)
            hive = PracticeHive(f"hive_test_{len(hives)}", url, self._databases.get(url))
            patch.setenv(f"AIRFLOW_CONN_{hive.conn_id.upper()}", url)
            hives.append((key, hive))
            return hive

        yield make
        for key, hive in hives:
            self._release(key, hive)

    def _acquire_database(self, key: str, options: dict[str, Any], _: Path) -> str:
        return self._idle[key].pop() if self._idle[key] else self._create(options)

    def _create(self, options: dict[str, Any]) -> str:
        url = f"{self._mysql_url}/hive_{uuid4().hex}"
        tables.create(url, **options)
        engine = create_engine(parse_url(url))
        with engine.begin() as connection:
            for name in self._first_ids.keys() & sqlalchemy.inspect(engine).get_table_names():
                connection.execute(text(f"ALTER TABLE `{name}` AUTO_INCREMENT = {self._first_ids[name]}"))
        self._databases[url] = InitialState.read(engine)
        engine.dispose()
        self._altered.discard(url.rpartition("/")[2])
        return url

    def _copy_template(self, key: str, options: dict[str, Any], folder: Path) -> str:
        path = folder / f"hive_{uuid4().hex}.sqlite"
        if key not in self._templates:
            tables.create(f"sqlite:///{path}", **options)
            engine = create_engine(f"sqlite:///{path}")
            with engine.begin() as connection:
                for name, first in self._first_ids.items():
                    row = {"name": name, "seq": first - 1}
                    connection.execute(
                        text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), row
                    )
            engine.dispose()
            self._templates[key] = path.read_bytes()
        path.write_bytes(self._templates[key])
        return f"sqlite:///{path}"

    def _release(self, key: str, hive: PracticeHive) -> None:
        hive.engine.dispose()  # A test may have killed its connections.
        if hive.url not in self._databases:
            return
        if hive.url.rpartition("/")[2] in self._altered:
            self._drop(hive.url)
        else:
            hive.wipe()
            hive.engine.dispose()
            self._idle[key].append(hive.url)

    def _drop(self, url: str) -> None:
        del self._databases[url]
        engine = create_engine(parse_url(url))
        with engine.begin() as connection:
            connection.execute(text(f"DROP DATABASE `{url.rpartition('/')[2]}`"))
        engine.dispose()

    def _has_changed(self, url: str) -> bool:
        engine = create_engine(parse_url(url))
        state = InitialState.read(engine)
        engine.dispose()
        return state != self._databases[url]

    def _record_statement(self, connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        keyword = re.match(r"\s*(\w*)", statement)
        if keyword is None or keyword[1].upper() not in DATA_STATEMENTS:
            self._altered.add(connection.engine.url.database or "")


@contextmanager
def temporary_hives(mysql_url: str, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[MakeHive]:
    """Yield a function that creates hives, with ids from 1; drop their databases at the end."""
    with HivePool(mysql_url, {}) as pool, pool.hives(folder, patch) as make:
        yield make
