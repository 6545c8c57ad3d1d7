"""Resolve the connection id of a hive to a SQLAlchemy URL and driver arguments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import amask_secret, mask_secret
from sqlalchemy import make_url

from event_hooks import addresses, settings
from event_hooks.database_url import EngineArgs, engine_args_from_connection, engine_args_from_url
from event_hooks.events import lookups
from event_hooks.exceptions import HiveRejected, HiveUnreachable


def resolve_hive(hive_conn_id: str, timeout: float | None = None) -> EngineArgs:
    """
    Return URL and driver arguments of a hive's database.

    :param hive_conn_id: an Airflow connection of type mysql or sqlite, or ``lookup:<process>`` for a process
        with a ``hive_uri`` in its lookup entry.
    :param timeout: seconds to connect, and for each statement; default: the setting ``hive_timeout``.
    :raises HiveUnreachable: there is no such connection, or Airflow cannot load it now.
    :raises HiveRejected: the connection is of another type, ambiguous, or asks for TLS in an unknown way.
    """
    uri = lookups.find_hive_uri(hive_conn_id)
    if uri is not None:
        with _translated_errors(hive_conn_id):
            return resolve_hive_uri(uri, timeout)
    try:
        return _build_engine_args(BaseHook.get_connection(hive_conn_id), timeout)
    except AirflowNotFoundException as error:
        raise HiveUnreachable(hive_conn_id, _CONNECTION_NOT_FOUND) from error


def resolve_hive_uri(hive_uri: str, timeout: float | None = None) -> EngineArgs:
    """
    Return URL and driver arguments for a ``hive_uri`` of a lookup; mask its password in logs.

    :param timeout: as in :func:`resolve_hive`.
    :raises ValueError: a parameter about TLS is unknown or invalid.
    """
    url = make_url(hive_uri)
    if url.password:
        mask_secret(url.password)
    return engine_args_from_url(url, url.query, timeout or settings.hive_timeout())


def describe_hive_url(hive_conn_id: str) -> str:
    """
    Return a placeholder for the URL in eHive's commands, which names the place where the URL is stored.

    The URL itself contains a password.
    """
    if hive_conn_id.startswith(lookups.URI_PREFIX):
        return f"<hive_uri of {hive_conn_id.removeprefix(lookups.URI_PREFIX)} in the process lookup>"
    return f"<URL of connection {hive_conn_id}>"


async def resolve_hive_async(hive_conn_id: str) -> EngineArgs:
    """
    Return the same as :func:`resolve_hive`, in a trigger, where that function would block the event loop.

    :raises HiveUnreachable: as :func:`resolve_hive`.
    :raises HiveRejected: as :func:`resolve_hive`.
    """
    uri = lookups.find_hive_uri(hive_conn_id)
    if uri is None:
        try:
            return _build_engine_args(await Connection.async_get(hive_conn_id))
        except AirflowNotFoundException as error:
            raise HiveUnreachable(hive_conn_id, _CONNECTION_NOT_FOUND) from error
    url = make_url(uri)
    if url.password:
        await amask_secret(url.password)
    with _translated_errors(hive_conn_id):
        return engine_args_from_url(url, url.query, settings.hive_timeout())


# Airflow raises the same error for a connection that is missing, that it cannot load now, or cannot parse.
_CONNECTION_NOT_FOUND = (
    "Airflow has no connection of this name, or cannot load it now, or its URL is invalid:"
    f" {addresses.ADVICE}"
)


def _build_engine_args(connection: Connection, timeout: float | None = None) -> EngineArgs:
    with _translated_errors(connection.conn_id):
        return engine_args_from_connection(connection, timeout or settings.hive_timeout())


@contextmanager
def _translated_errors(hive_conn_id: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise HiveRejected(hive_conn_id, str(error)) from error
