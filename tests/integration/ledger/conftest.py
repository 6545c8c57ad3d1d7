"""A new ledger for each test, on each kind of server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine

from event_hooks.ledger import database, tables
from event_hooks.ledger.ledger import Ledger
from event_hooks.reports import topology
from event_hooks.reports.hook import RabbitMQHook

_SERVERS = {
    "postgresql": ("POSTGRES_URL", "+psycopg2", "postgres"),
    "mysql": ("MYSQL_URL", "+mysqldb", "mysql"),
}
"""The variable with a server's address, its driver, and a database that is always there."""


@contextmanager
def databases_made(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Give a function that makes an empty database of a kind, and drop what it has made."""
    made = []

    def make(kind: str) -> str:
        name = f"ledger_{uuid4().hex[:20]}"
        if kind == "sqlite":
            uri = f"sqlite://{str(folder / name).replace('/', '%2F')}"
        else:
            variable, driver, first = _SERVERS[kind]
            admin = os.environ[variable].rstrip("/")
            if kind == "postgresql":
                admin = admin.rpartition("/")[0]
            admin = admin.replace("://", f"{driver}://", 1) + f"/{first}"
            with create_engine(admin, isolation_level="AUTOCOMMIT").connect() as root:
                root.exec_driver_sql(f"CREATE DATABASE {name}")
            made.append((admin, f"DROP DATABASE {name}" + (" WITH (FORCE)" if kind == "postgresql" else "")))
            uri = admin.rpartition("/")[0].replace(driver, "", 1) + f"/{name}"
        patch.setenv("AIRFLOW_CONN_EVENT_LEDGER", uri)
        return uri

    yield make
    for admin, statement in made:
        with create_engine(admin, isolation_level="AUTOCOMMIT").connect() as root:
            root.exec_driver_sql(statement)


@pytest.fixture
def empty_database(sqlite_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Give a function that makes an empty database of a kind, and the connection to it: its URI."""
    with databases_made(sqlite_folder, monkeypatch) as make:
        yield make


@pytest.fixture(params=["postgresql", "mysql", "sqlite"])
def server(request: pytest.FixtureRequest, empty_database: Callable[[str], str]) -> str:
    """The kind of a server with an empty database, to which ``event_ledger`` leads."""
    empty_database(request.param)
    return str(request.param)


@pytest.fixture
def ledger(server: str) -> Iterator[Ledger]:
    """A ledger that has nothing written in it."""
    ledger = migrated()
    yield ledger
    ledger.close()


def migrated() -> Ledger:
    """Make the tables in the database to which ``event_ledger`` leads."""
    engine = database.engine()
    database.migrate(engine)
    engine.dispose()
    return Ledger()


@contextmanager
def kept_ledger_made() -> Iterator[Ledger]:
    """Make a ledger on PostgreSQL for many tests: a new one for each would take most of their time."""
    with pytest.MonkeyPatch.context() as patch, databases_made(Path(), patch) as make:
        make("postgresql")
        ledger = migrated()
        yield ledger
        ledger.close()


def empty_ledger() -> None:
    """Take out all that the ledger has, to which ``event_ledger`` leads."""
    engine = database.engine()
    with engine.begin() as connection:
        connection.exec_driver_sql(f"TRUNCATE {', '.join(tables.metadata.tables)}")
    engine.dispose()


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A queue that hears all reports of an exchange of its own."""
    name = f"test_{uuid4().hex}"
    monkeypatch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", os.environ["RABBITMQ_URL"])
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__REPORT_EXCHANGE", name)
    topology.declare(RabbitMQHook(), name, {name: "report.*"})
    yield name
    with RabbitMQHook().channel() as channel:
        channel.queue_delete(name)
        channel.exchange_delete(name)
