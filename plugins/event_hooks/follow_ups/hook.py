"""The event server that events are handed on to: this one's own API, or another one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
from airflow.providers.http.hooks.http import HttpHook
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from event_hooks import settings
from event_hooks.client import ClientError, log_in
from event_hooks.client.client import API_PATH
from event_hooks.client.http import BearerAuth, checked, error_message, parse_json
from event_hooks.exceptions import EventRejected, EventServerUnreachable

CONN_ID = "event_server"

PASSING = (401, 403, 408, 425, 429)
"""Refusals that another moment, or another password, may change."""


class EventServerHook(HttpHook):
    """
    Submit events to an event server.

    The connection ``event_server``, of type http, has user and password of Airflow, or only a password, which
    is then a token. The address is the setting ``event_uri``, or the connection's, or that of this Airflow;
    the API is below it at ``/event-hooks`` unless a path is given.

    :param place: what :func:`load_connection_async` gave, inside a trigger, which must not block.
    """

    def __init__(self, conn_id: str = CONN_ID, place: Connection | None = None) -> None:
        super().__init__("POST", conn_id)
        self.place = place
        self._auth: BearerAuth | None = None

    def submit(self, events: Sequence[Mapping[str, Any]]) -> None:
        """
        Submit events, each with an ``event_id``: the same again is harmless.

        :raises EventRejected: the server refuses one of them, and took none.
        :raises EventServerUnreachable: no answer, or none that helps; the same again may help.
        """
        options = {
            "timeout": settings.event_server_timeout(),
            "check_response": False,
            "allow_redirects": False,
        }
        headers = {"Content-Type": "application/json"}
        try:
            answer = self.run("jobs", json.dumps(list(events)), headers, options)
        except AirflowNotFoundException as error:
            raise EventServerUnreachable(self.http_conn_id, _NO_CONNECTION) from error
        except (requests.RequestException, ClientError, ValueError) as error:
            raise EventServerUnreachable(self.http_conn_id, str(error)) from error
        if answer.status_code < 300:
            return
        reason = f"it answers {answer.status_code}: {error_message(parse_json(answer), answer)}"
        if answer.status_code >= 500 or answer.status_code < 400 or answer.status_code in PASSING:
            raise EventServerUnreachable(self.http_conn_id, reason)
        raise EventRejected(reason)

    def get_connection(self, conn_id: str) -> Connection:  # type: ignore[override]  # theirs is the class's
        """Give the connection that is known, or ask Airflow for it."""
        return self.place or super().get_connection(conn_id)

    def _set_base_url(self, connection: Connection) -> None:
        super()._set_base_url(connection)
        own = self.base_url if connection.host else settings.airflow_uri()
        uri = checked(settings.event_uri() or own)
        self.base_url = uri if urlsplit(uri).path else uri + API_PATH

    def _extract_auth(self, connection: Connection) -> BearerAuth | None:
        """Log in, once; a password without a user is a token."""
        if self._auth is None and connection.password:
            user, password = connection.login, connection.password
            self._auth = BearerAuth(log_in(self.base_url, user, password) if user else password)
        return self._auth


async def load_connection_async(conn_id: str = CONN_ID) -> Connection:
    """
    Ask Airflow for the connection, inside an event loop.

    :raises EventServerUnreachable: it has none, or cannot give it now.
    """
    try:
        found: Connection = await Connection.async_get(conn_id)
    except AirflowNotFoundException as error:
        raise EventServerUnreachable(conn_id, _NO_CONNECTION) from error
    return found


_NO_CONNECTION = "make an Airflow connection of this name, of type http, with user and password"
