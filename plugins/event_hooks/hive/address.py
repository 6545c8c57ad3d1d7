"""Where a hive is: from its connection id to SQLAlchemy's URL and the driver's options."""

from __future__ import annotations

import json
import math
from typing import Any

from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import amask_secret, mask_secret
from sqlalchemy import URL, make_url

from event_hooks import lookups, settings
from event_hooks.exceptions import HiveRefused, HiveUnreachable


def find(hive_conn_id: str) -> tuple[URL, dict[str, Any]]:
    """
    Give URL and options of a hive's database.

    :param hive_conn_id: an Airflow connection of type mysql or sqlite, or ``lookup:<process>`` for a process
        whose lookup entry has a ``hive_uri``.
    :raises HiveUnreachable: if there is no such connection, or Airflow cannot give it now.
    :raises HiveRefused: if it is of another type.
    """
    uri = lookups.hive_uri(hive_conn_id)
    if uri is not None:
        return at(uri)
    try:
        return _from_connection(BaseHook.get_connection(hive_conn_id))
    except AirflowNotFoundException as error:
        raise HiveUnreachable(hive_conn_id, _NO_CONNECTION) from error


def at(hive_uri: str) -> tuple[URL, dict[str, Any]]:
    """Give the same for an address as lookups have it."""
    url = make_url(hive_uri)
    if url.password:
        mask_secret(url.password)
    return _with_options(url, None)


async def find_async(hive_conn_id: str) -> tuple[URL, dict[str, Any]]:
    """Give the same inside a trigger, where :func:`find` would block all others."""
    uri = lookups.hive_uri(hive_conn_id)
    if uri is None:
        try:
            return _from_connection(await Connection.async_get(hive_conn_id))
        except AirflowNotFoundException as error:
            raise HiveUnreachable(hive_conn_id, _NO_CONNECTION) from error
    url = make_url(uri)
    if url.password:
        await amask_secret(url.password)
    return _with_options(url, None)


# Airflow says the same of a connection that is not there and of one that it cannot fetch just now.
_NO_CONNECTION = "Airflow has no connection of this name, or cannot give it now"


# The server gives up as well, and before us where it waits for a lock: 1205 is tried again. MariaDB reads the
# first comment, MySQL from 5.7.8 on the second.
_SERVER_LIMITS = (
    "SET SESSION innodb_lock_wait_timeout = {lock}"
    "/*M!100101 , max_statement_time = {seconds} *//*!50708 , max_execution_time = {seconds}000 */"
)


def _from_connection(connection: Connection) -> tuple[URL, dict[str, Any]]:
    if connection.conn_type == "sqlite":
        return _with_options(URL.create("sqlite", database=connection.host or connection.schema), None)
    if connection.conn_type not in ("mysql", "mariadb"):
        kinds = f"expected a connection of type mysql or sqlite, not {connection.conn_type}"
        raise HiveRefused(connection.conn_id, kinds)
    url = URL.create(
        "mysql",
        username=connection.login,
        password=connection.password,
        host=connection.host,
        port=connection.port,
        database=connection.schema,
    )
    return _with_options(url, connection.extra_dejson.get("ssl"))


def _with_options(url: URL, tls: Any) -> tuple[URL, dict[str, Any]]:
    seconds = settings.hive_timeout()
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
