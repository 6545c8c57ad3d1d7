"""Build SQLAlchemy URLs, driver arguments with timeouts, and engines from Airflow connections and URIs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine, create_engine

from event_hooks import addresses, tls

if TYPE_CHECKING:
    from airflow.sdk import Connection

EngineArgs = tuple[URL, dict[str, Any]]
"""A URL and ``connect_args``, the keyword arguments of the driver's ``connect``."""

# UTC, because eHive's times are TIMESTAMPs: in a time zone with summer time, an hour exists twice each year.
# The server has timeouts as well. The one for locks is shorter than that of the driver, so that the server
# responds with error 1205, which is retried. MariaDB reads the first comment, MySQL from 5.7.8 on the second.
_INIT_COMMAND = (
    "SET SESSION time_zone = '+00:00', innodb_lock_wait_timeout = {lock}"
    "/*M!100101 , max_statement_time = {seconds} *//*!50708 , max_execution_time = {seconds}000 */"
)


def make_engine(engine_args: EngineArgs, **options: Any) -> Engine:
    """
    Create an engine that hides the values of statements, which may be confidential, in errors and logs.

    The engine connects on first use. If TLS is required, a MySQL connection without it is an error.

    :param options: further arguments of ``sqlalchemy.create_engine``.
    """
    url, connect_args = engine_args
    engine = create_engine(url, connect_args=connect_args, hide_parameters=True, **options)
    if "ssl_mode" in connect_args:
        tls.require_encryption(engine)
    return engine


def engine_args_from_connection(connection: Connection, timeout: float) -> EngineArgs:
    """
    Return URL and driver arguments for a connection of type mysql, mariadb, or sqlite (its file is the host).

    :param timeout: seconds to connect, and for each response; rounded up for MySQL.
    :raises ValueError: the connection is of another type, its address is ambiguous, or an extra about TLS is
        unknown.
    """
    if connection.conn_type == "sqlite":
        url = URL.create("sqlite", database=connection.host or connection.schema)
        return engine_args_from_url(url, {}, timeout)
    if connection.conn_type not in ("mysql", "mariadb"):
        raise ValueError(f"expected a connection of type mysql or sqlite, not {connection.conn_type}")
    url = url_from_connection(connection, "mysql")
    return engine_args_from_url(url, connection.extra_dejson, timeout)


def engine_args_from_url(url: URL, extras: Mapping[str, Any], timeout: float) -> EngineArgs:
    """
    Return the URL with our driver, and the driver's arguments.

    :param extras: of a connection, or the query of a URL; those about TLS apply, see :mod:`event_hooks.tls`.
    :param timeout: seconds, as in :func:`engine_args_from_connection`.
    :raises ValueError: an extra about TLS is unknown or invalid.
    """
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine_args(url, timeout)
    url = url.set(
        drivername="mysql+mysqldb",
        host=_tcp_host(url.host),
        port=url.port or 3306,
        query={"charset": "utf8mb4"},
    )
    seconds = math.ceil(timeout)  # the driver takes integers, and 0 would be no timeout
    connect_args: dict[str, Any] = {
        **dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), seconds),
        "init_command": _INIT_COMMAND.format(lock=math.ceil(timeout / 2), seconds=seconds),
        **tls.build_mysql_args(extras),
    }
    return url, connect_args


def url_from_connection(
    connection: Connection, drivername: str, query: Mapping[str, str] | None = None
) -> URL:
    """
    Build a server's URL from the fields of an Airflow connection; its schema is the database.

    :raises ValueError: the address of the connection is ambiguous; the message does not show it.
    """
    check_address(connection)
    return URL.create(
        drivername,
        username=connection.login,
        password=connection.password,
        host=_tcp_host(connection.host),
        port=connection.port,
        database=connection.schema,
        query=query or {},
    )


def check_address(connection: Connection) -> None:
    """
    Check that a connection's URL was parsed as intended: Airflow takes a part of a password for the database.

    :raises ValueError: it was not; the message does not show the address.
    """
    if any("@" in (part or "") for part in (connection.host, connection.schema)):
        raise ValueError(f"its address is ambiguous: {addresses.ADVICE}")


def _tcp_host(host: str | None) -> str | None:
    """Replace localhost: the MySQL library would connect to the local socket and ignore the port."""
    return "127.0.0.1" if host == "localhost" else host


def _sqlite_engine_args(url: URL, timeout: float) -> EngineArgs:
    # SQLite would create a missing file; it does not with mode=rw.
    url = URL.create("sqlite", database=f"file:{url.database}", query={"mode": "rw", "uri": "true"})
    return url, {"timeout": timeout, "check_same_thread": False}
