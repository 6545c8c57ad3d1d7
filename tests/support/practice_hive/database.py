"""Transactions on the practice hive's database, MySQL or SQLite, that outlive a fault of the server."""

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

LOCK_ERRORS = {1205, 1213}  # waited too long, deadlock
ABSENCE_ERRORS = {1040, 1053, 1927, 2002, 2003, 2006, 2013}  # too many, shutdown, killed, refused, gone, lost


def parse(url: str) -> URL:
    """Read a URL as SQLAlchemy or Airflow writes it, and choose the driver."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return parsed.set(drivername="sqlite", query={})
    kept = {name: value for name, value in parsed.query.items() if name in ("charset", "unix_socket")}
    # The client library takes localhost for the local socket, whatever the port.
    host = "127.0.0.1" if parsed.host == "localhost" and parsed.port else parsed.host
    return parsed.set(drivername="mysql+mysqldb", host=host, query={"charset": "utf8mb4", **kept})


def mask_passwords(url: str) -> str:
    """Give the URL without its password, for logs."""
    return parse(url).render_as_string(hide_password=True)


def connect(url: URL) -> Engine:
    """Make an engine; on SQLite a transaction locks from its start, so that it cannot fail half-way."""
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, pool_size=20)
    engine = create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def leave_transactions_to_us(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def lock(connection: Connection) -> None:
        if not connection.get_execution_options().get("only_reads"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


class Database:
    """
    A database that may go away for a while.

    :param patience: seconds to wait for a lost server before its error is raised.
    :param stop: once set, a lost server is no longer waited for.
    """

    def __init__(self, url: str, *, patience: float = 60, stop: threading.Event | None = None) -> None:
        self.masked_url = mask_passwords(url)
        self.engine = connect(parse(url))
        self.patience = patience
        self.stop = stop or threading.Event()
        self._counts = threading.local()
        self._away = False
        event.listen(self.engine, "after_cursor_execute", self._count)

    @property
    def statements(self) -> int:
        """How many statements this thread has run."""
        return getattr(self._counts, "statements", 0)

    def read(self, statement: str, **parameters: Any) -> Sequence[Row[Any]]:
        """Give the rows as they are now, outside any transaction."""

        def ask() -> Sequence[Row[Any]]:
            with self.engine.connect() as connection:
                # Without a transaction, no snapshot of MySQL's and no lock of SQLite's is held.
                reading = connection.execution_options(isolation_level="AUTOCOMMIT", only_reads=True)
                return reading.execute(text(statement), parameters).all()

        return self._patiently(ask)

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Do the work in one transaction; after a deadlock or a lost server, do it anew."""

        def transact() -> Result:
            with self.engine.begin() as connection:
                return work(connection)

        return self._patiently(transact)

    def _patiently(self, work: Callable[[], Result]) -> Result:
        limit, pause = time.monotonic() + self.patience, 0.05
        while True:
            try:
                result = work()
            except DBAPIError as error:
                is_lock = _is_lock(error)
                waits = is_lock or (_is_absence(error) and not self.stop.is_set())
                if not waits or time.monotonic() > limit:
                    raise
                if not is_lock:
                    self._note_absence(error)
                time.sleep(pause)
                pause = min(pause * 2, 1)
            else:
                self._away = False
                return result

    def _note_absence(self, error: DBAPIError) -> None:
        if not self._away:
            self._away = True
            log.warning("Waiting for %s: %s", self.masked_url, error.orig)

    def _count(self, *_: object) -> None:
        self._counts.statements = self.statements + 1


def _is_lock(error: DBAPIError) -> bool:
    return _code(error) in LOCK_ERRORS or "is locked" in str(error.orig)


def _is_absence(error: DBAPIError) -> bool:
    return error.connection_invalidated or _code(error) in ABSENCE_ERRORS


def _code(error: DBAPIError) -> object:
    arguments = error.orig.args if error.orig else ()
    return arguments[0] if arguments else None
