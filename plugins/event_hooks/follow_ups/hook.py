"""The Airflow hook of the event server that receives follow-up events: this API, or another one."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import requests
from airflow.providers.http.hooks.http import HttpHook
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from cachetools import TTLCache, cached

from event_hooks import settings
from event_hooks.client import ClientError, log_in
from event_hooks.client.auth import API_PATH
from event_hooks.client.errors import error_message
from event_hooks.client.http import parse_json, validate_token, validate_url
from event_hooks.database_url import check_address
from event_hooks.exceptions import EventRejected, EventServerUnreachable

CONN_ID = "event_server"

TOKEN_CACHE_SECONDS = 600
"""Seconds for which a process uses a token. With FAB, a login takes 0.1 s of the API server's CPU time."""

RETRYABLE_STATUSES = (401, 403, 408, 425, 429)
"""HTTP statuses below 500 after which a later attempt, or another password, may succeed."""


class EventServerHook(HttpHook):
    """
    Submit events to an event server.

    The connection ``event_server``, of type http, has a user and password of Airflow, or only a password,
    which is then a token. The URL is the setting ``event_uri``, the URL of the connection, or the URL of this
    Airflow, in this order. The API is below it at ``/event-hooks``, unless the URL has a path.

    :param connection: the result of :func:`load_connection_async`, for a trigger, which must not block.
    """

    def __init__(self, conn_id: str = CONN_ID, connection: Connection | None = None) -> None:
        super().__init__("POST", conn_id)
        self.connection = connection
        self._auth: BearerAuth | None = None

    def submit(self, events: Sequence[Mapping[str, Any]]) -> None:
        """
        Submit events, each with an ``event_id``, by which the server recognises a repeated submission.

        :raises EventRejected: the server rejects one of the events, and has accepted no event.
        :raises EventServerUnreachable: no response, one after which a retry may succeed, or one of another
            server: a proxy, or an Airflow without this plugin.
        """
        response = self._post(events)
        status, body = response.status_code, parse_json(response.content)
        if status == 401:  # the token is invalid: the next attempt logs in again
            _log_in.cache_clear()
        if 200 <= status < 300:
            if not _has_item_per_event(body, len(events)):
                expected = f"expected a JSON array with an item for each of the {len(events)} events"
                raise EventServerUnreachable(self.http_conn_id, f"it answers {status}; {expected}: {_ADVICE}")
            return
        reason = f"it answers {status}: {error_message(status, response.headers, body)}"
        if 400 <= status < 500 and status not in RETRYABLE_STATUSES:
            if _is_rejection(body, status):
                raise EventRejected(reason)
            reason = f'{reason}; a rejection is {{"error": "<field>: <reason>"}}: {_ADVICE}'
        raise EventServerUnreachable(self.http_conn_id, reason)

    def _post(self, events: Sequence[Mapping[str, Any]]) -> requests.Response:
        options = {
            "timeout": settings.event_server_timeout(),
            "check_response": False,
            "allow_redirects": False,
        }
        headers = {"Content-Type": "application/json"}
        try:
            response: requests.Response = self.run("jobs", json.dumps(list(events)), headers, options)
        except AirflowNotFoundException as error:
            raise EventServerUnreachable(self.http_conn_id, _CONNECTION_ADVICE) from error
        except (requests.RequestException, ClientError, ValueError) as error:
            raise EventServerUnreachable(self.http_conn_id, str(error)) from error
        return response

    def get_connection(self, conn_id: str) -> Connection:  # type: ignore[override]  # theirs is a class method
        """Return the connection that the hook was created with, or load it from Airflow."""
        return self.connection or super().get_connection(conn_id)

    def _set_base_url(self, connection: Connection) -> None:
        check_address(connection)
        super()._set_base_url(connection)
        connection_url = self.base_url if connection.host else settings.airflow_uri()
        url = validate_url(settings.event_uri() or connection_url)
        self.base_url = url if urlsplit(url).path else url + API_PATH

    def _extract_auth(self, connection: Connection) -> BearerAuth | None:
        """Return the token of a login; a password without a user is a token."""
        if self._auth is None and connection.password:
            user, password = connection.login, connection.password
            self._auth = BearerAuth(_log_in(self.base_url, user, password) if user else password)
        return self._auth


class BearerAuth(requests.auth.AuthBase):
    """Send a token; ``requests`` then ignores ``~/.netrc``."""

    def __init__(self, token: str) -> None:
        self._token = validate_token(token)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


@cached(TTLCache(maxsize=8, ttl=TOKEN_CACHE_SECONDS), lock=Lock())
def _log_in(url: str, user: str, password: str) -> str:
    return log_in(url, user, password)


def _has_item_per_event(body: Any, count: int) -> bool:
    """Return whether a body is the JSON of a successful ``POST /jobs``."""
    items = body if isinstance(body, list) else []
    return len(items) == count and all(isinstance(item, dict) and "id" in item for item in items)


def _is_rejection(body: Any, status: int) -> bool:
    """Return whether a body is an error of ``POST /jobs``, and not of a route that does not exist."""
    error = body.get("error") if isinstance(body, dict) else None
    return isinstance(error, str) and error != http.client.responses.get(status)


async def load_connection_async(conn_id: str = CONN_ID) -> Connection:
    """
    Load the connection from Airflow without blocking the event loop.

    :raises EventServerUnreachable: Airflow does not have the connection.
    """
    try:
        connection: Connection = await Connection.async_get(conn_id)
    except AirflowNotFoundException as error:
        raise EventServerUnreachable(conn_id, _CONNECTION_ADVICE) from error
    return connection


_CONNECTION_ADVICE = "create an Airflow connection of this name, of type http, with user and password"
_ADVICE = "check that its address leads to an Airflow with the plugin event hooks"
