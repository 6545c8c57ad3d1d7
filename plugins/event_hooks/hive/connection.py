"""Where a hive is: from its connection id to SQLAlchemy's URL and the driver's options."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import amask_secret, mask_secret
from sqlalchemy import URL, make_url

from event_hooks import settings
from event_hooks.database_url import engine_args_from_connection, engine_args_from_url
from event_hooks.events import lookups
from event_hooks.exceptions import HiveRejected, HiveUnreachable


def resolve_hive(hive_conn_id: str) -> tuple[URL, dict[str, Any]]:
    """
    Give URL and options of a hive's database.

    :param hive_conn_id: an Airflow connection of type mysql or sqlite, or ``lookup:<process>`` for a process
        whose lookup entry has a ``hive_uri``.
    :raises HiveUnreachable: if there is no such connection, or Airflow cannot give it now.
    :raises HiveRejected: if it is of another type.
    """
    uri = lookups.find_hive_uri(hive_conn_id)
    if uri is not None:
        return resolve_hive_uri(uri)
    try:
        return _of(BaseHook.get_connection(hive_conn_id))
    except AirflowNotFoundException as error:
        raise HiveUnreachable(hive_conn_id, _NO_CONNECTION) from error


def resolve_hive_uri(hive_uri: str) -> tuple[URL, dict[str, Any]]:
    """Give the same for an address as lookups have it."""
    url = make_url(hive_uri)
    if url.password:
        mask_secret(url.password)
    return engine_args_from_url(url, None, settings.hive_timeout())


async def resolve_hive_async(hive_conn_id: str) -> tuple[URL, dict[str, Any]]:
    """Give the same inside a trigger, where :func:`resolve_hive` would block all others."""
    uri = lookups.find_hive_uri(hive_conn_id)
    if uri is None:
        try:
            return _of(await Connection.async_get(hive_conn_id))
        except AirflowNotFoundException as error:
            raise HiveUnreachable(hive_conn_id, _NO_CONNECTION) from error
    url = make_url(uri)
    if url.password:
        await amask_secret(url.password)
    return engine_args_from_url(url, None, settings.hive_timeout())


# Airflow says the same of a connection that is not there and of one that it cannot fetch just now.
_NO_CONNECTION = "Airflow has no connection of this name, or cannot give it now"


def _of(connection: Connection) -> tuple[URL, dict[str, Any]]:
    try:
        return engine_args_from_connection(connection, settings.hive_timeout())
    except ValueError as error:
        raise HiveRejected(connection.conn_id, str(error)) from error
