"""The token of a client: sent with each request, and renewed by a login when it has expired."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from event_hooks.client.errors import RequestRejected
from event_hooks.client.http import JSON_HEADERS, Answer, parse_response, validate_token

API_PATH = "/event-hooks"
"""Path of the event API below the root of Airflow."""

LOGIN_PATH = "/auth/token"
"""Path of Airflow's login below its root."""


class TokenAuth(httpx.Auth):
    """
    Send a token with each request of a client, blocking or not.

    If the server answers 401 and the login is known, log in once and repeat the request. A second 401 is the
    answer. The API processes no request that it answers with 401, so the repetition submits nothing twice.

    :param uri: address of the API.
    :param token: ``None`` to log in before the first request; without a login, no token is sent then.
    :param login: user and password of Airflow; ``None`` if the token cannot be renewed.
    :raises ValueError: the token is invalid; the message does not show it.
    """

    requires_response_body = True

    def __init__(self, uri: str, token: str | None, login: tuple[str, str] | None) -> None:
        self._airflow_root = find_airflow_root(uri)
        self._token = validate_token(token) if token else None
        self._login = login

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """
        Yield the requests to send; httpx sends each answer back.

        :raises RequestRejected: the login is wrong.
        :raises ServerUnreachable: the server cannot process the login now.
        """
        sent_token = self._token
        if sent_token or not self._login:
            response = yield self._authorize(request)
            if response.status_code != 401 or not self._login:
                return
        if self._token == sent_token:  # otherwise another request has renewed it meanwhile
            body = build_login_body(*self._login)
            url, extensions = self._airflow_root + LOGIN_PATH, request.extensions  # with the timeout
            response = yield httpx.Request(
                "POST", url, headers=JSON_HEADERS, json=body, extensions=extensions
            )
            with login_errors():
                answer: Answer[Any] = parse_response(self._airflow_root, response)
            self._token = read_token(self._airflow_root, answer.body)
        yield self._authorize(request)

    def _authorize(self, request: httpx.Request) -> httpx.Request:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def find_airflow_root(uri: str) -> str:
    """Return the address of the Airflow with an event API."""
    return uri.rstrip("/").removesuffix(API_PATH)


def build_login_body(user: str, password: str) -> dict[str, str]:
    """Return the JSON of the request for a token."""
    return {"username": user, "password": password}


@contextmanager
def login_errors() -> Iterator[None]:
    """
    Explain the error of a login.

    :raises RequestRejected: user or password is wrong, or the server has rejected the request.
    """
    try:
        yield
    except RequestRejected as error:
        if error.status == 401:
            raise RequestRejected("user or password is wrong", 401) from error
        raise


def read_token(root: str, body: Any) -> str:
    """
    Return the token in the answer to a login.

    :param root: address of Airflow.
    :raises RequestRejected: the server is not Airflow.
    """
    if not isinstance(body, dict) or "access_token" not in body:
        raise RequestRejected(f"{root} returns no token: check that it is the address of Airflow")
    return str(body["access_token"])
