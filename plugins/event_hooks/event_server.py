"""The event server that events are handed on to: this one's own API, or another one."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
from airflow.providers.http.hooks.http import HttpHook
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from requests.auth import AuthBase

from event_hooks import settings
from event_hooks.client import ROOM, ClientError, log_in
from event_hooks.exceptions import EventNotTaken, EventServerUnreachable

CONN_ID = "event_server"

PASSING = (401, 403, 408, 425, 429)
"""Refusals that another moment, or another password, may change."""

log = logging.getLogger(__name__)


class EventServerHook(HttpHook):
    """
    Submit events to an event server.

    The connection ``event_server``, of type http, has user and password of Airflow, or only a password, which
    is then a token. The address is the setting ``event_uri``, or the connection's, below which the API is at
    ``/event-hooks`` unless a path is given.

    :param place: what :func:`find_async` gave, inside a trigger, which must not block.
    """

    def __init__(self, conn_id: str = CONN_ID, place: Connection | None = None) -> None:
        super().__init__("POST", conn_id, auth_type=self._auth)
        self.place = place
        self._token: str | None = None

    def submit(self, events: Sequence[Mapping[str, Any]]) -> None:
        """
        Submit events, each with an ``event_id``: the same again is harmless.

        :raises EventNotTaken: the server refuses one of them, and took none.
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
        except (requests.RequestException, ClientError) as error:
            raise EventServerUnreachable(self.http_conn_id, str(error)) from error
        if answer.status_code < 300:
            return
        reason = _reason(answer)
        if answer.status_code >= 500 or answer.status_code < 400 or answer.status_code in PASSING:
            raise EventServerUnreachable(self.http_conn_id, reason)
        raise EventNotTaken(reason)

    def get_connection(self, conn_id: str) -> Connection:  # type: ignore[override]  # theirs is the class's
        """Give the connection that is known, or ask Airflow for it."""
        return self.place or super().get_connection(conn_id)

    def get_conn(self, *given: Any, **named: Any) -> requests.Session:
        """Give a session that is logged in, and know the address."""
        connection = self.get_connection(self.http_conn_id)
        self._set_base_url(connection)
        self.base_url = _address(settings.event_uri() or self.base_url)
        if self._token is None and connection.password:
            self._token = (
                log_in(self.base_url, connection.login, connection.password)
                if connection.login
                else connection.password
            )
        base_url = self.base_url
        session = super().get_conn(*given, **named)
        self.base_url = base_url
        return session

    def _auth(self, *_: object) -> AuthBase:
        return _Bearer(self._token)


async def find_async(conn_id: str = CONN_ID) -> Connection:
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


class _Bearer(AuthBase):
    def __init__(self, token: str | None) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.token:
            request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def _address(uri: str) -> str:
    return uri.rstrip("/") if urlsplit(uri).path.strip("/") else uri.rstrip("/") + ROOM


def _reason(answer: requests.Response) -> str:
    try:
        told = answer.json()
    except ValueError:
        told = None
    said = told.get("error") or told.get("detail") if isinstance(told, dict) else None
    return f"it answers {answer.status_code}: {said or answer.reason}"
