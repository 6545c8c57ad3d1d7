"""
Distinguish temporary errors of databases from lasting ones: MySQL, MariaDB, PostgreSQL and SQLite.

An error is temporary only if it is known to pass without a change by an operator. The same statement meets
any other error again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, PendingRollbackError

Code = int | str | None
"""Number of MySQL and MariaDB, SQLSTATE of PostgreSQL, or name of SQLite; ``None`` without a code."""

_TEMPORARY_MYSQL_CODES = frozenset(
    {
        *(1040, 1135, 1203, 1226),  # too many connections, threads, connections of the user; its hourly limit
        *(1053, 1080, 1152, 1184, 1927, 3032, 3168, 3169, 4031),  # shutdown; the server ended the connection
        *(1158, 1159, 1160, 1161),  # the network failed between server and client
        *(1020, 1205, 1213, 1412, 1637, 3101, 3572),  # other transactions: locks, deadlocks, a changed table
        *(1317, 1969, 3024),  # the statement was interrupted, or reached its timeout
        1047,  # a node of a Galera cluster that is not ready answers "Unknown command"
        *(2001, 2002, 2003, 2004, 2005),  # no connection, or the host name cannot be resolved now
        *(0, 2006, 2012, 2013, 2055),  # the connection was lost
    }
)

_TEMPORARY_SQLSTATES = ("08", "40", "53", "55P03", "57", "25P03")
"""
Beginnings of the SQLSTATEs of PostgreSQL.

Connections, rollbacks by the server, lacking resources, a lock that is not available, intervention (such as
shutdown, statement timeout) and the timeout of an idle transaction.
"""

_LASTING_LOGIN_ERRORS = (
    *("authentication failed", "does not exist", "pg_hba.conf", "not permitted", "denied"),
    *("does not support SSL", "certificate verify failed"),
)
"""Parts of messages of PostgreSQL about connections, for which its driver has no SQLSTATE."""

_TEMPORARY_SQLITE_CODES = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN", "SQLITE_IOERR")
"""Locks, and a file that is not there, as while a file server is unavailable."""

_VALUE_MYSQL_CODES = frozenset({1048, 1153, 1265, 1292, 1364, 1366, 1411, 2020, 3140, 3819, 4025})
"""Values that do not fit: also longer than ``max_allowed_packet``, or characters that a column lacks."""

_VALUE_SQLSTATES = ("22", "23", "54", "SQLITE_TOOBIG")
"""Beginnings of the same codes of PostgreSQL (data, constraints, limits), and the one of SQLite."""

LOCK_CODES = frozenset({1205, 1213, "40P01", "55P03"})
"""Lock wait timeouts and deadlocks."""

_ESCAPED = (b'"', b"'", b"\\", b"\n", b"\r", b"\0", b"\x1a")
"""Bytes before which the MySQL driver inserts a backslash."""

MIN_CHECKED_CHARS = 2**18
"""Characters of a row from which on its length is compared with ``max_allowed_packet``."""


def find_code(error: BaseException) -> Code:
    """Return the database's code of an error of SQLAlchemy."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if code := getattr(cause, "pgcode", None) or getattr(cause, "sqlite_errorname", None):
        return str(code)
    first = next(iter(getattr(cause, "args", ())), None)
    return first if isinstance(error, DBAPIError) and isinstance(first, int) else None


def is_temporary(error: BaseException) -> bool:
    """Return whether an error of SQLAlchemy, the driver or the network passes without a change."""
    if isinstance(error, OSError | PendingRollbackError):  # TimeoutError is an OSError
        return True
    if not isinstance(error, DBAPIError) or is_value_error(error):
        return False
    if error.connection_invalidated:
        return True
    match find_code(error):
        case int(code):
            return code in _TEMPORARY_MYSQL_CODES
        case str(code) if code.startswith("SQLITE_"):
            return code.startswith(_TEMPORARY_SQLITE_CODES)
        case str(code):
            return code.startswith(_TEMPORARY_SQLSTATES)
        case _:
            return _is_lost_connection(error)


def _is_lost_connection(error: DBAPIError) -> bool:
    """Return whether an error without a code is one of PostgreSQL about a connection, except a login."""
    text = str(error.orig)
    is_connection = type(error.orig).__name__ in ("OperationalError", "InterfaceError")
    return is_connection and not any(part in text for part in _LASTING_LOGIN_ERRORS)


def is_lock_conflict(error: BaseException) -> bool:
    """Return whether another transaction holds a lock, so that an immediate retry can succeed."""
    code = find_code(error)
    return code in LOCK_CODES or str(code).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def is_value_error(error: BaseException) -> bool:
    """Return whether a database rejects a value, and would accept the same statement with another one."""
    if isinstance(error, DataError | IntegrityError):
        return True
    code = find_code(error)
    is_text = isinstance(code, str)
    return str(code).startswith(_VALUE_SQLSTATES) if is_text else code in _VALUE_MYSQL_CODES


def is_missing_column(error: BaseException) -> bool:
    """Return whether a statement names a column that its table lacks."""
    return find_code(error) == 1054 or "no such column" in str(error)


def reject_long_packets(engine: Engine) -> None:
    """
    Have MySQL and MariaDB reject a row that is longer than ``max_allowed_packet``.

    Without this, the server ends the connection, which cannot be distinguished from an outage.
    """
    if engine.dialect.name in ("mysql", "mariadb"):
        event.listen(engine, "before_cursor_execute", _check_packet)


def _check_packet(connection: Connection, _cursor: object, _statement: str, rows: Any, *_: object) -> None:
    """
    Compare the longest row of a statement with the limit of the server.

    :raises DataError: the row is too long.
    """
    texts = [[value for value in row if isinstance(value, str)] for row in _iterate_rows(rows)]
    longest = max(texts, key=_count_chars, default=[])
    if _count_chars(longest) < MIN_CHECKED_CHARS:
        return
    size = sum(map(_escaped_length, longest))
    limit = int(connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one())
    if size >= limit:
        reason = (
            f"a row of {size:,} bytes is longer than max_allowed_packet, {limit:,} bytes:"
            " increase it on the server"
        )
        raise DataError(None, None, ValueError(1153, reason))


def _iterate_rows(parameters: Any) -> Iterator[Sequence[Any]]:
    """Yield the values of each row of a statement's parameters: one row, or a list of rows."""
    for row in parameters if isinstance(parameters, list) else [parameters]:
        yield list(row.values()) if isinstance(row, Mapping) else row


def _count_chars(texts: Sequence[str]) -> int:
    return sum(map(len, texts))


def _escaped_length(text: str) -> int:
    data = text.encode("utf-8", "replace")
    return len(data) + sum(map(data.count, _ESCAPED))
