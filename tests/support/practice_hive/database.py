"""Transactions on the practice hive's database, MySQL or SQLite, that are retried when the server fails."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import URL, Connection, Engine, Row, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)
Result = TypeVar("Result")

LOCK_ERRORS = {1205, 1213}  # lock wait timeout, deadlock
CONNECTION_ERRORS = {1040, 1053, 1927, 2002, 2003, 2006, 2013}
"""Too many connections, shutdown, killed, refused (socket, TCP), server has gone away, connection lost."""


def parse_url(url: str) -> URL:
    """Parse a URL of SQLAlchemy or Airflow, and choose the driver."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return parsed.set(drivername="sqlite", query={})
    options = {name: value for name, value in parsed.query.items() if name in ("charset", "unix_socket")}
    # For localhost, the client library uses the local socket and ignores the port.
    host = "127.0.0.1" if parsed.host == "localhost" and parsed.port else parsed.host
    return parsed.set(drivername="mysql+mysqldb", host=host, query={"charset": "utf8mb4", **options})


def mask_passwords(url: str) -> str:
    """Return the URL without its password, for logs."""
    return parse_url(url).render_as_string(hide_password=True)


def connect(url: URL) -> Engine:
    """Create an engine; on SQLite, a transaction takes its lock at its start and cannot fail half-way."""
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, pool_size=20)
    engine = create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def disable_driver_transactions(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def lock(connection: Connection) -> None:
        if not connection.get_execution_options().get("is_read_only"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


class Database:
    """
    A database whose server may be unavailable for some time.

    :param retry_seconds: how long an operation is retried before its error is raised.
    :param stop: once set, operations are not retried while the server is unavailable.
    """

    def __init__(self, url: str, *, retry_seconds: float = 60, stop: threading.Event | None = None) -> None:
        self.masked_url = mask_passwords(url)
        self.engine = connect(parse_url(url))
        self.retry_seconds = retry_seconds
        self.stop = stop or threading.Event()
        self._counts = threading.local()
        self._is_unavailable = False
        event.listen(self.engine, "after_cursor_execute", self._count_statement)

    @property
    def statements(self) -> int:
        """The number of statements that this thread has executed."""
        return getattr(self._counts, "statements", 0)

    def read(self, statement: str, **parameters: Any) -> Sequence[Row[Any]]:
        """Return the committed rows of a SELECT, outside of any transaction."""

        def select() -> Sequence[Row[Any]]:
            with self.engine.connect() as connection:
                # Without a transaction, MySQL keeps no snapshot and SQLite no lock.
                options = connection.execution_options(isolation_level="AUTOCOMMIT", is_read_only=True)
                return options.execute(text(statement), parameters).all()

        return self._retry(select)

    def write(self, operation: Callable[[Connection], Result]) -> Result:
        """
        Run an operation in one transaction; retry it after a deadlock or a lost connection.

        :raises DBAPIError: the operation fails for another reason, or for longer than ``retry_seconds``.
        """

        def transact() -> Result:
            with self.engine.begin() as connection:
                return operation(connection)

        return self._retry(transact)

    def _retry(self, operation: Callable[[], Result]) -> Result:
        deadline, pause_seconds = time.monotonic() + self.retry_seconds, 0.05
        while True:
            try:
                result = operation()
            except DBAPIError as error:
                is_lock = _is_lock(error)
                can_retry = is_lock or (_is_connection_error(error) and not self.stop.is_set())
                if not can_retry or time.monotonic() > deadline:
                    raise
                if not is_lock:
                    self._log_unavailable(error)
                time.sleep(pause_seconds)
                pause_seconds = min(pause_seconds * 2, 1)
            else:
                self._is_unavailable = False
                return result

    def _log_unavailable(self, error: DBAPIError) -> None:
        if not self._is_unavailable:
            self._is_unavailable = True
            log.warning("%s is unavailable: %s", self.masked_url, error.orig)

    def _count_statement(self, *_: object) -> None:
        self._counts.statements = self.statements + 1


def _is_lock(error: DBAPIError) -> bool:
    return _code(error) in LOCK_ERRORS or "is locked" in str(error.orig)


def _is_connection_error(error: DBAPIError) -> bool:
    return error.connection_invalidated or _code(error) in CONNECTION_ERRORS


def _code(error: DBAPIError) -> object:
    arguments = error.orig.args if error.orig else ()
    return arguments[0] if arguments else None
