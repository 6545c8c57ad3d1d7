"""
Databases for ledgers: new empty ones, and one with tables for each process and kind of server.

To run all migrations takes up to a second, to delete the rows of a test some milliseconds. Only tests of the
migrations need a new database.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError

from event_hooks.ledger import database, schema, tables
from event_hooks.ledger.database import Ledger

CONNECTION_VARIABLE = "AIRFLOW_CONN_EVENT_LEDGER"

_SERVERS = {
    "postgresql": ("POSTGRES_URL", "+psycopg2", "postgres"),
    "mysql": ("MYSQL_URL", "+mysqldb", "mysql"),
}
"""``{kind: (variable with the URL, driver, database that always exists)}``."""

_SEQUENCES = [table.name for table in tables.metadata.sorted_tables if table.autoincrement_column is not None]
"""Tables whose ids come from a sequence on PostgreSQL."""


def admin_engine(kind: str) -> Engine:
    """Return an engine of the administrator, for statements such as CREATE DATABASE."""
    variable, driver, name = _SERVERS[kind]
    server = os.environ[variable].rstrip("/")
    if kind == "postgresql":
        server = server.rpartition("/")[0]
    url = f"{server.replace('://', f'{driver}://', 1)}/{name}"
    return create_engine(url, isolation_level="AUTOCOMMIT")


def create_database(kind: str, folder: Path) -> str:
    """Create an empty database, for SQLite below the folder, and return its URI for Airflow."""
    name = f"ledger_{uuid4().hex[:20]}"
    if kind == "sqlite":
        return sqlite_uri(folder / name)
    engine = admin_engine(kind)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    url = engine.url.set(drivername=kind, database=name)
    return url.render_as_string(hide_password=False)


def drop_database(kind: str, uri: str) -> None:
    """Drop a database of :func:`create_database`, even if it is in use."""
    if kind == "sqlite":
        return
    engine, name = admin_engine(kind), uri.rpartition("/")[2]
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name}{' WITH (FORCE)' if kind == 'postgresql' else ''}")
    engine.dispose()


def sqlite_uri(file: Path) -> str:
    """Return the URI of a SQLite file for an Airflow connection."""
    return f"sqlite://{str(file).replace('/', '%2F')}"


@contextmanager
def new_databases(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Yield a function that creates an empty database for ``event_ledger``, and drop them at the end."""
    created = []

    def create(kind: str) -> str:
        uri = create_database(kind, folder)
        created.append((kind, uri))
        patch.setenv(CONNECTION_VARIABLE, uri)
        return uri

    yield create
    for kind, uri in created:
        drop_database(kind, uri)


def migrated_ledger() -> Ledger:
    """Run the migrations on the database of ``event_ledger``, and return a ledger for it."""
    engine = database.build_engine()
    schema.migrate(engine, database.CONN_ID)
    engine.dispose()
    return Ledger()


class LedgerDatabases:
    """
    A database with the tables of the ledger for each kind of server.

    :func:`ledger_databases` returns the instance of this process, and drops its databases at the end.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ledger_tables_"))
        self._engines: dict[str, tuple[str, Engine]] = {}

    def empty(self, kind: str, folder: Path) -> str:
        """
        Return the URI of a database with tables that have no rows.

        For SQLite it is a new file in the folder. For the other servers it is the same database in each call;
        on PostgreSQL the ids start at 1 again. Close all connections to it before the next call.
        """
        uri, engine = self._engines.get(kind) or self._create(kind)
        if kind == "sqlite":
            file = folder / f"ledger_{uuid4().hex[:20]}"
            shutil.copyfile(self._folder / "template", file)
            return sqlite_uri(file)
        try:
            _delete_rows(engine)
        except SQLAlchemyError:  # a failed test has left other tables, or locks
            self._drop(kind)
            return self.empty(kind, folder)
        return uri

    def _create(self, kind: str) -> tuple[str, Engine]:
        with pytest.MonkeyPatch.context() as patch:
            uri = sqlite_uri(self._folder / "template")
            if kind != "sqlite":
                uri = create_database(kind, self._folder)
            patch.setenv(CONNECTION_VARIABLE, uri)
            self._engines[kind] = uri, database.build_engine()
            schema.migrate(self._engines[kind][1], database.CONN_ID)
        return self._engines[kind]

    def _drop(self, kind: str) -> None:
        uri, engine = self._engines.pop(kind)
        engine.dispose()
        drop_database(kind, uri)

    def drop(self) -> None:
        """Drop all databases."""
        for kind in list(self._engines):
            self._drop(kind)
        shutil.rmtree(self._folder)


def _delete_rows(engine: Engine) -> None:
    """Delete all rows; for small tables, this is 100 times as fast as TRUNCATE."""
    with engine.begin() as connection:
        for table in reversed(tables.metadata.sorted_tables):
            connection.execute(table.delete())
        if engine.name == "postgresql":
            restarts = ", ".join(f"setval('{name}_id_seq', 1, false)" for name in _SEQUENCES)
            connection.exec_driver_sql(f"SELECT {restarts}")


_DATABASES = pytest.StashKey[LedgerDatabases]()


def ledger_databases(config: pytest.Config) -> LedgerDatabases:
    """Return the databases of this process, which are dropped at the end of the session."""
    if _DATABASES not in config.stash:
        config.stash[_DATABASES] = LedgerDatabases()
        config.add_cleanup(config.stash[_DATABASES].drop)
    return config.stash[_DATABASES]
