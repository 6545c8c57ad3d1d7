"""Where the ledger is, and of which version its tables are."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from more_itertools import sliced
from sqlalchemy import URL, Engine, Table, bindparam, create_engine, event, insert
from sqlalchemy import Connection as DatabaseConnection
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, SQLAlchemyError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random

from event_hooks import settings
from event_hooks.exceptions import LedgerNotMigrated, LedgerRejected, LedgerUnreachable

CONN_ID = "event_ledger"
VERSION_TABLE = "event_ledger_version"
"""Not Alembic's usual name: the ledger may share a database with somebody else's tables."""

logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of each version that it looks at

T = TypeVar("T")

Reader = Callable[[Any], Sequence[Any]]
"""Returns the rows of a SELECT, inside a transaction or without one."""

CHUNK = 1000
"""Rows that one statement names or writes."""

_DEADLOCK_CODES = {"1213", "1205", "40P01", "55P03"}
"""Error codes of MySQL, then of PostgreSQL."""


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
def translate_errors(conn_id: str) -> Iterator[None]:
    """Turn what the driver raises into an error of ours, without statement and values."""
    try:
        yield
    except (DataError, IntegrityError) as error:
        raise LedgerRejected(conn_id, str(error.orig)) from error
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

    :raises LedgerNotMigrated: if they are not.
    """
    with translate_errors(conn_id), target.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        found = context.get_current_revision()
    expected = ScriptDirectory.from_config(_config()).get_current_head()
    if found != expected:
        raise LedgerNotMigrated(conn_id, found, str(expected))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


class Ledger:
    """
    The ledger behind an Airflow connection.

    :param connection: what ``find_async`` gave, inside a trigger, which must not block.
    :raises LedgerUnreachable: if it does not answer.
    :raises LedgerNotMigrated: if its tables are not those of this version.
    """

    def __init__(self, conn_id: str = CONN_ID, connection: Any = None) -> None:
        self.conn_id = conn_id
        self._engine: Engine = engine(conn_id, connection)
        check(self._engine, conn_id)

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()

    def read(self, statement: Any) -> Sequence[Any]:
        """Give the rows of a SELECT."""
        with translate_errors(self.conn_id), self._engine.connect() as connection:
            return connection.execute(statement).all()

    def write(
        self, write: Callable[[DatabaseConnection], T], passes: Callable[[BaseException], bool] | None = None
    ) -> T:
        """Do it in a transaction, and again after a deadlock, or another error that passes."""
        with translate_errors(self.conn_id):
            for attempt in Retrying(
                retry=retry_if_exception(passes or is_deadlock),
                stop=stop_after_attempt(5),
                wait=wait_random(0, 0.2),
                reraise=True,
            ):
                with attempt, self._engine.begin() as connection:
                    return write(connection)
        raise AssertionError("not reached")

    @contextmanager
    def transaction(self) -> Iterator[DatabaseConnection]:
        """Open a transaction that is committed at the end."""
        with translate_errors(self.conn_id), self._engine.begin() as connection:
            yield connection


def insert_missing(connection: DatabaseConnection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, and leave those alone whose key is there."""
    statement: Any
    match connection.dialect.name:
        case "mysql" | "mariadb":
            first = next(iter(table.primary_key))  # sets nothing; IGNORE would also hide what is wrong
            statement = mysql.insert(table).on_duplicate_key_update({first.name: first})
        case "postgresql":
            statement = postgresql.insert(table).on_conflict_do_nothing()
        case "sqlite":
            statement = sqlite.insert(table).on_conflict_do_nothing()
        case _:
            statement = insert(table)
    for some in sliced(rows, CHUNK):
        connection.execute(statement, list(some))


def execute_updates(connection: DatabaseConnection, rows_of: Any, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        statement = rows_of.values({name: bindparam(name) for name in rows[0].keys() - {"of", "by"}})
        for some in sliced(rows, CHUNK):
            connection.execute(statement, some)


def reader_of(connection: DatabaseConnection) -> Reader:
    """Let what only asks do so inside a transaction."""
    return lambda statement: connection.execute(statement).all()


def sanitize_text(value: str) -> str:
    """Replace what a database does not take: NUL, and lone surrogates."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def is_deadlock(error: BaseException) -> bool:
    if not isinstance(error, OperationalError):
        return False
    return error_code(error) in _DEADLOCK_CODES


def error_code(error: OperationalError) -> str:
    return str(getattr(error.orig, "pgcode", None) or next(iter(getattr(error.orig, "args", ())), None))
