"""Where the ledger is, and of which version its tables are."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from event_hooks import settings
from event_hooks.exceptions import LedgerBehind, LedgerRefused, LedgerUnreachable

CONN_ID = "event_ledger"
VERSION_TABLE = "event_ledger_version"
"""Not Alembic's usual name: the ledger may share a database with somebody else's tables."""

logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of each version that it looks at

_DRIVERS = {"postgres": "postgresql+psycopg2", "mysql": "mysql+mysqldb", "sqlite": "sqlite"}


def engine(conn_id: str = CONN_ID, connection: Connection | None = None) -> Engine:
    """
    Make the engine of an Airflow connection of type postgres, mysql or sqlite (its file is the host).

    :raises LedgerUnreachable: if there is no such connection, or it is of another type.
    """
    if connection is None:
        with _found(conn_id):
            connection = BaseHook.get_connection(conn_id)
    return _engine(connection, conn_id)


async def find_async(conn_id: str = CONN_ID) -> Connection:
    """
    Ask Airflow for the connection, inside an event loop.

    :raises LedgerUnreachable: if it has none, or cannot give it now.
    """
    with _found(conn_id):
        found: Connection = await Connection.async_get(conn_id)
        return found


@contextmanager
def _found(conn_id: str) -> Iterator[None]:
    try:
        yield
    except AirflowNotFoundException as error:
        reason = "Airflow has no connection of this name, or cannot give it now"
        raise LedgerUnreachable(conn_id, reason) from error


def _engine(connection: Connection, conn_id: str) -> Engine:
    if connection.conn_type not in _DRIVERS:
        kinds = f"expected a connection of type {', '.join(_DRIVERS)}, not {connection.conn_type}"
        raise LedgerUnreachable(conn_id, kinds)
    seconds = math.ceil(settings.ledger_timeout())
    driver = _DRIVERS[connection.conn_type]
    if driver == "sqlite":
        url = URL.create(driver, database=connection.host or connection.schema)
        made = create_engine(url, connect_args={"timeout": seconds}, hide_parameters=True)
        event.listen(made, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys = ON"))
        return made
    url = URL.create(
        driver,
        username=connection.login,
        password=connection.password,
        # MySQL's library takes localhost for its local socket, whatever the port.
        host="127.0.0.1" if connection.host == "localhost" else connection.host,
        port=connection.port,
        database=connection.schema,
        query={"charset": "utf8mb4"} if connection.conn_type == "mysql" else {},
    )
    return create_engine(
        url,
        connect_args=_limits(connection.conn_type, seconds),
        pool_pre_ping=True,
        hide_parameters=True,
        # MySQL's default would show a transaction the past, after another one was found to be first.
        isolation_level="READ COMMITTED",
    )


def _limits(conn_type: str, seconds: int) -> dict[str, Any]:
    if conn_type == "postgres":
        limits = f"-c statement_timeout={seconds}s -c lock_timeout={seconds}s"
        return {"connect_timeout": seconds, "options": limits, "tcp_user_timeout": 1000 * seconds}
    names = ("connect_timeout", "read_timeout", "write_timeout")
    lock = f"SET SESSION innodb_lock_wait_timeout = {math.ceil(seconds / 2)}"
    return {**dict.fromkeys(names, seconds), "init_command": lock}


@contextmanager
def errors_named(conn_id: str) -> Iterator[None]:
    """Turn what the driver raises into an error of ours, without statement and values."""
    try:
        yield
    except (DataError, IntegrityError) as error:
        raise LedgerRefused(conn_id, str(error.orig)) from error
    except DBAPIError as error:
        raise LedgerUnreachable(conn_id, str(error.orig)) from error
    except SQLAlchemyError as error:
        raise LedgerUnreachable(conn_id, str(error)) from error


def migrate(target: Engine) -> None:
    """Bring the tables to the version of this code; harmless when they are."""
    with target.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def check(target: Engine, conn_id: str) -> None:
    """
    See that the tables are of the version of this code; costs one query.

    :raises LedgerBehind: if they are not.
    """
    with errors_named(conn_id), target.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        found = context.get_current_revision()
    expected = ScriptDirectory.from_config(_config()).get_current_head()
    if found != expected:
        raise LedgerBehind(conn_id, found, str(expected))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config
