"""The connection to the ledger, and helpers for its SQL statements."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from more_itertools import sliced
from sqlalchemy import URL, ColumnElement, Engine, Executable, Table, Update, bindparam, event
from sqlalchemy import Connection as DatabaseConnection
from sqlalchemy import insert as plain_insert
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from event_hooks import addresses, settings, tls
from event_hooks.database_errors import (
    LOCK_CODES,
    find_code,
    is_temporary,
    is_value_error,
    reject_long_packets,
)
from event_hooks.database_url import make_engine, url_from_connection
from event_hooks.exceptions import LedgerRejected, LedgerUnreachable, LedgerValueRejected
from event_hooks.ledger import schema

CONN_ID = "event_ledger"

T = TypeVar("T")

RowReader = Callable[[Any], Sequence[Any]]
"""Returns the rows of a SELECT: :meth:`Ledger.read`, or :func:`build_row_reader` inside a transaction."""

MAX_ROWS_PER_STATEMENT = 1000
"""Rows that one statement names or writes."""

_DRIVERS = {"postgres": "postgresql+psycopg2", "mysql": "mysql+mysqldb", "sqlite": "sqlite"}
"""SQLAlchemy driver of each supported connection type."""

DEADLOCK_SECONDS = 30.0
"""
Seconds for which a transaction is retried after deadlocks.

When many events arrive at once, MySQL 9.7 ended the same transaction more than five times.
"""

MAX_ATTEMPTS = 5
"""Attempts of a transaction that fails with another retryable error."""

MAX_RETRY_PAUSE_SECONDS = 2.0
"""Upper bound of the random pauses between these attempts, which grow from 0.1 s."""


class Ledger:
    """
    The ledger behind an Airflow connection.

    :param connection: the result of :func:`load_connection_async`, inside a trigger, which must not block;
        default: the connection ``conn_id`` is loaded from Airflow.
    :raises LedgerUnreachable: if the database does not answer.
    :raises LedgerNotMigrated: if its tables have another version than this code.
    """

    def __init__(self, conn_id: str = CONN_ID, connection: Any = None) -> None:
        self.conn_id = conn_id
        self._engine: Engine = build_engine(conn_id, connection)
        with translate_errors(conn_id):
            schema.check_version(self._engine, conn_id)

    def close(self) -> None:
        """Close the database connections."""
        self._engine.dispose()

    def read(self, statement: Any) -> Sequence[Any]:
        """Return the rows of a SELECT."""
        with translate_errors(self.conn_id), self._engine.connect() as connection:
            return connection.execute(statement).all()

    def write(
        self,
        operation: Callable[[DatabaseConnection], T],
        is_retryable: Callable[[BaseException], bool] | None = None,
    ) -> T:
        """
        Run an operation in a transaction; retry it after retryable errors.

        A deadlock is retried for ``DEADLOCK_SECONDS``, another error up to ``MAX_ATTEMPTS`` times.

        :param is_retryable: default :func:`is_deadlock`.
        """
        with translate_errors(self.conn_id):
            for attempt in Retrying(
                retry=retry_if_exception(is_retryable or is_deadlock),
                stop=_is_exhausted,
                wait=wait_random_exponential(multiplier=0.1, max=MAX_RETRY_PAUSE_SECONDS),
                reraise=True,
            ):
                with attempt, self._engine.begin() as connection:
                    return operation(connection)
        raise AssertionError("not reached")

    @contextmanager
    def transaction(self) -> Iterator[DatabaseConnection]:
        """Open a transaction that is committed at the end of the block."""
        with translate_errors(self.conn_id), self._engine.begin() as connection:
            yield connection


def build_engine(conn_id: str = CONN_ID, connection: Connection | None = None) -> Engine:
    """
    Return an engine for an Airflow connection of type postgres, mysql or sqlite (its file is the host).

    :raises LedgerUnreachable: if the connection does not exist.
    :raises LedgerRejected: if its type, address or extra is invalid.
    """
    if connection is None:
        with _translate_not_found(conn_id):
            connection = BaseHook.get_connection(conn_id)
    if connection.conn_type not in _DRIVERS:
        reason = f"expected a connection of type {', '.join(_DRIVERS)}, not {connection.conn_type}"
        raise LedgerRejected(conn_id, reason)
    seconds = math.ceil(settings.ledger_timeout())
    if connection.conn_type == "sqlite":
        return _build_sqlite_engine(connection, seconds)
    try:
        return _build_server_engine(connection, connection.conn_type, seconds)
    except ValueError as error:
        raise LedgerRejected(conn_id, str(error)) from error


async def load_connection_async(conn_id: str = CONN_ID) -> Connection:
    """
    Load the Airflow connection inside an event loop.

    :raises LedgerUnreachable: if Airflow does not have the connection, or cannot load it now.
    """
    with _translate_not_found(conn_id):
        connection: Connection = await Connection.async_get(conn_id)
        return connection


@contextmanager
def _translate_not_found(conn_id: str) -> Iterator[None]:
    try:
        yield
    except AirflowNotFoundException as error:
        reason = (
            "Airflow has no connection of this name, or cannot load it now, or its URL is invalid:"
            f" {addresses.ADVICE}"
        )
        raise LedgerUnreachable(conn_id, reason) from error


def _build_sqlite_engine(connection: Connection, seconds: int) -> Engine:
    url = URL.create(_DRIVERS["sqlite"], database=connection.host or connection.schema)
    engine = make_engine((url, {"timeout": seconds}), **_pool_options(seconds))
    event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys = ON"))
    return engine


def _build_server_engine(connection: Connection, conn_type: str, seconds: int) -> Engine:
    query = {"charset": "utf8mb4"} if conn_type == "mysql" else {}
    url = url_from_connection(connection, _DRIVERS[conn_type], query)
    engine = make_engine(
        (url, {**_timeout_args(conn_type, seconds), **_tls_args(connection)}),
        **_pool_options(seconds),
        pool_pre_ping=True,
        # With MySQL's default, REPEATABLE READ, a transaction that finds a duplicate key cannot read the row
        # that another transaction committed meanwhile.
        isolation_level="READ COMMITTED",
    )
    reject_long_packets(engine)
    return engine


def _tls_args(connection: Connection) -> dict[str, Any]:
    extras = connection.extra_dejson
    if connection.conn_type == "mysql":
        return tls.build_mysql_args(extras)
    return tls.select_libpq_args(extras)


def _pool_options(seconds: int) -> dict[str, Any]:
    """Limit the connections of this process: the processes of several machines share those of the server."""
    return {"pool_size": settings.ledger_pool_size(), "max_overflow": 0, "pool_timeout": seconds}


def _timeout_args(conn_type: str, seconds: int) -> dict[str, Any]:
    if conn_type == "postgres":
        options = f"-c statement_timeout={seconds}s -c lock_timeout={seconds}s"
        return {"connect_timeout": seconds, "options": options, "tcp_user_timeout": 1000 * seconds}
    names = ("connect_timeout", "read_timeout", "write_timeout")
    lock_timeout = f"SET SESSION innodb_lock_wait_timeout = {math.ceil(seconds / 2)}"
    return {**dict.fromkeys(names, seconds), "init_command": lock_timeout}


@contextmanager
def translate_errors(conn_id: str) -> Iterator[None]:
    """
    Translate errors of SQLAlchemy and the driver, without the statement and its values.

    :raises LedgerValueRejected: if the database rejects a value, so that a retry cannot help.
    :raises LedgerRejected: if a retry helps only after a fix.
    :raises LedgerUnreachable: if a retry may help.
    """
    try:
        yield
    except DBAPIError as error:
        raise _find_error_class(error)(conn_id, str(error.orig)) from error
    except PoolTimeoutError as error:
        size = settings.ledger_pool_size()
        reason = f"all {size} connections of this process are in use: increase [event_hooks] ledger_pool_size"
        raise LedgerUnreachable(conn_id, reason) from error
    except SQLAlchemyError as error:
        raise _find_error_class(error)(conn_id, str(error)) from error


def _find_error_class(error: SQLAlchemyError) -> type[LedgerUnreachable]:
    if is_value_error(error):
        return LedgerValueRejected
    return LedgerUnreachable if is_temporary(error) else LedgerRejected


def insert_missing(connection: DatabaseConnection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows; if a key exists, its row stays as it is."""
    statement: Any
    match connection.dialect.name:
        case "mysql" | "mariadb":
            # Setting a key column to itself changes nothing; INSERT IGNORE would also hide other errors.
            key = next(iter(table.primary_key))
            statement = mysql.insert(table).on_duplicate_key_update({key.name: key})
        case "postgresql":
            statement = postgresql.insert(table).on_conflict_do_nothing()
        case "sqlite":
            statement = sqlite.insert(table).on_conflict_do_nothing()
        case _:
            statement = plain_insert(table)
    execute_many(connection, statement, rows)


def execute_updates(
    connection: DatabaseConnection, statement: Update, rows: Sequence[dict[str, Any]]
) -> None:
    """
    Execute an UPDATE for each row.

    :param statement: its WHERE selects a row by parameters. Their names end with an underscore, because
        SQLAlchemy reserves the names of columns for SET.
    :param rows: the values of these parameters, and of the columns to set; all rows have the same keys.
    """
    if rows:
        columns = [name for name in rows[0] if not name.endswith("_")]
        execute_many(connection, statement.values({name: bindparam(name) for name in columns}), rows)


def execute_many(
    connection: DatabaseConnection, statement: Executable, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Execute a statement for each row, up to :data:`MAX_ROWS_PER_STATEMENT` rows in a call of the driver."""
    for batch in sliced(rows, MAX_ROWS_PER_STATEMENT):
        connection.execute(statement, list(batch))


def read_matching(
    read_rows: RowReader, statement: Any, column: ColumnElement[Any], values: Sequence[Any]
) -> list[Any]:
    """Return the rows of a SELECT with one of the values in a column; one statement for each 1,000 values."""
    return [
        row
        for batch in sliced(values, MAX_ROWS_PER_STATEMENT)
        for row in read_rows(statement.where(column.in_(batch)))
    ]


def build_row_reader(connection: DatabaseConnection) -> RowReader:
    """Return a function that reads inside the transaction of the connection."""
    return lambda statement: connection.execute(statement).all()


def sanitize_text(value: str) -> str:
    """Replace the characters that databases reject: NUL, and lone surrogates."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def is_deadlock(error: BaseException) -> bool:
    """Return whether an error is a deadlock or a lock timeout, which a retry can resolve."""
    return isinstance(error, DBAPIError) and find_code(error) in LOCK_CODES


def _is_exhausted(state: RetryCallState) -> bool:
    """Return whether a transaction that failed again is not retried any more."""
    error = state.outcome and state.outcome.exception()
    if error and is_deadlock(error):
        return (state.seconds_since_start or 0.0) >= DEADLOCK_SECONDS
    return state.attempt_number >= MAX_ATTEMPTS
