"""Hives for tests: empty databases that tests use one after another."""

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
from tests.support.practice_hive.database import parse
from tests.support.practice_hive.worker import Worker

KEPT = {"hive_meta", "analysis_base", "analysis_stats", "resource_class", "resource_description"}
"""Tables of a hive that a pipeline has before its first job."""

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
Where the ids of each table start in the hives of ``make_hive``.

In a database that another test has used, the ids go on after those of that test, so no test may depend on the
ids that it gets. With these numbers, such a test fails also when it runs alone.
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
"""Statements that change no more of a database than ``PracticeHive.wipe`` restores."""


@dataclass(frozen=True)
class InitialState:
    """What the database of a new hive holds, on MariaDB."""

    schema: list[str]
    tables: list[str]
    rows: dict[str, list[dict[str, Any]]]
    """Of the tables in ``KEPT``."""

    @classmethod
    def read(cls, engine: Engine) -> InitialState:
        """Read it from a database."""
        tables = sqlalchemy.inspect(engine).get_table_names()
        with engine.connect() as connection:
            rows = {name: read_rows(connection, name) for name in tables if name in KEPT}
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
    """A hive with its connection id, and a look behind the scenes."""

    def __init__(self, conn_id: str, url: str, initial: InitialState | None = None) -> None:
        self.conn_id = conn_id
        self.url = url
        self.engine: Engine = create_engine(parse(url))
        self.initial = initial

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
        """
        Restore the rows of a new hive on MariaDB.

        Only the next ids stay: to lower an AUTO_INCREMENT takes ten times as long as all the rest.
        """
        assert self.initial, "only a hive on MariaDB can be wiped"
        others = [name for name in self.initial.tables if name not in KEPT]
        with_rows = " UNION ALL ".join(
            f"SELECT '{x}' FROM DUAL WHERE EXISTS (SELECT 1 FROM `{x}`)" for x in others
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


MakeHive = Callable[..., PracticeHive]


class HivePool:
    """
    Databases of hives that tests use one after another.

    On MariaDB, creating and dropping a database takes about 500 ms, and wiping it 10 ms. A test therefore
    takes an idle database, and the pool wipes it after the test. The pool drops a database instead if any
    engine of SQLAlchemy has sent it a statement that is not in ``DATA_STATEMENTS``: its tables, triggers or
    users may differ. When the pool ends, it checks that it has missed no change of a schema. On SQLite, each
    hive is a copy of a template.

    :param mysql_url: address of the server, with its administrator.
    :param first_ids: where the ids of each table start, if not at 1.
    """

    def __init__(self, mysql_url: str, first_ids: dict[str, int]) -> None:
        self._mysql_url = mysql_url
        self._first_ids = first_ids
        self._databases: dict[str, InitialState] = {}
        self._idle: defaultdict[str, list[str]] = defaultdict(list)
        self._altered: set[str] = set()
        self._templates: dict[str, bytes] = {}

    def __enter__(self) -> HivePool:
        """Watch the statements of this process."""
        event.listen(Engine, "before_cursor_execute", self._note_statement)
        return self

    def __exit__(self, *_: object) -> None:
        """Check the schemas, and drop all databases."""
        event.remove(Engine, "before_cursor_execute", self._note_statement)
        changed = [url for urls in self._idle.values() for url in urls if self._has_changed(url)]
        for url in list(self._databases):
            self._drop(url)
        assert not changed, f"schemas were changed, and the pool did not notice: {changed}"

    @contextmanager
    def hives(self, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[MakeHive]:
        """Yield the function that ``make_hive`` provides, and take the hives back."""
        hives: list[tuple[str, PracticeHive]] = []

        def make(server: str = "mysql", **options: Any) -> PracticeHive:
            arguments = inspect.signature(tables.create).bind("", **options)
            arguments.apply_defaults()
            key = repr(arguments)
            take = self._take_database if server == "mysql" else self._copy_template
            url = take(key, options, folder)
            hive = PracticeHive(f"hive_test_{len(hives)}", url, self._databases.get(url))
            patch.setenv(f"AIRFLOW_CONN_{hive.conn_id.upper()}", url)
            hives.append((key, hive))
            return hive

        yield make
        for key, hive in hives:
            self._take_back(key, hive)

    def _take_database(self, key: str, options: dict[str, Any], _: Path) -> str:
        return self._idle[key].pop() if self._idle[key] else self._create(options)

    def _create(self, options: dict[str, Any]) -> str:
        url = f"{self._mysql_url}/hive_{uuid4().hex}"
        tables.create(url, **options)
        engine = create_engine(parse(url))
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

    def _take_back(self, key: str, hive: PracticeHive) -> None:
        hive.engine.dispose()  # a test may have killed its connections
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
        engine = create_engine(parse(url))
        with engine.begin() as connection:
            connection.execute(text(f"DROP DATABASE `{url.rpartition('/')[2]}`"))
        engine.dispose()

    def _has_changed(self, url: str) -> bool:
        engine = create_engine(parse(url))
        state = InitialState.read(engine)
        engine.dispose()
        return state != self._databases[url]

    def _note_statement(self, connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        keyword = re.match(r"\s*(\w*)", statement)
        if keyword is None or keyword[1].upper() not in DATA_STATEMENTS:
            self._altered.add(connection.engine.url.database or "")


@contextmanager
def hives_made(mysql_url: str, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[MakeHive]:
    """Yield a function that makes new hives, with ids from 1, and drop their databases at the end."""
    with HivePool(mysql_url, {}) as pool, pool.hives(folder, patch) as make:
        yield make
