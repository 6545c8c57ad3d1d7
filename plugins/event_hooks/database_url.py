"""From an Airflow connection, or an address, to SQLAlchemy's URL and options with time limits."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL

if TYPE_CHECKING:
    from airflow.sdk import Connection

# The server gives up as well, and before us where it waits for a lock: 1205 is tried again. MariaDB reads the
# first comment, MySQL from 5.7.8 on the second.
_SERVER_LIMITS = (
    "SET SESSION innodb_lock_wait_timeout = {lock}"
    "/*M!100101 , max_statement_time = {seconds} *//*!50708 , max_execution_time = {seconds}000 */"
)


def engine_args_from_connection(connection: Connection, seconds: float) -> tuple[URL, dict[str, Any]]:
    """
    Give URL and options of a connection of type mysql, or sqlite, whose file is the host.

    :param seconds: to connect, and for each answer.
    :raises ValueError: it is of another type.
    """
    if connection.conn_type == "sqlite":
        return engine_args_from_url(
            URL.create("sqlite", database=connection.host or connection.schema), None, seconds
        )
    if connection.conn_type not in ("mysql", "mariadb"):
        raise ValueError(f"expected a connection of type mysql or sqlite, not {connection.conn_type}")
    url = URL.create(
        "mysql",
        username=connection.login,
        password=connection.password,
        host=connection.host,
        port=connection.port,
        database=connection.schema,
    )
    return engine_args_from_url(url, connection.extra_dejson.get("ssl"), seconds)


def engine_args_from_url(url: URL, tls: Any, seconds: float) -> tuple[URL, dict[str, Any]]:
    """
    Give the URL as our driver wants it, and the driver's options.

    :param tls: what MySQL's library takes as ``ssl``, or its JSON; None for none.
    """
    if url.get_backend_name() == "sqlite":
        # SQLite would make a file that is missing; mode=rw does not.
        query = {"mode": "rw", "uri": "true"}
        return URL.create("sqlite", database=f"file:{url.database}", query=query), {
            "timeout": seconds,
            "check_same_thread": False,
        }
    # MySQL's library takes localhost for its local socket, whatever the port.
    host = "127.0.0.1" if url.host == "localhost" else url.host
    url = url.set(
        drivername="mysql+mysqldb",
        host=host,
        port=url.port or 3306,
        query={"charset": "utf8mb4"},
    )
    # Whole seconds, and 0 would be for ever.
    limits = ("connect_timeout", "read_timeout", "write_timeout")
    options: dict[str, Any] = dict.fromkeys(limits, math.ceil(seconds))
    options["init_command"] = _SERVER_LIMITS.format(lock=math.ceil(seconds / 2), seconds=math.ceil(seconds))
    if tls:
        options["ssl"] = json.loads(tls) if isinstance(tls, str) else tls
    return url, options
