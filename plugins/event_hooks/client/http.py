"""
HTTP requests of the clients, with timeouts; idempotent requests are retried.

The two sessions differ only in how they wait: the rest of this module does no I/O, and both use it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import mktime_tz, parsedate_tz
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from event_hooks.client.errors import ADVICE, ClientError, RequestRejected, ServerUnreachable, error_message

MAX_RETRIES = 3
RETRY_STATUSES = (None, 429, 502, 503, 504)
"""HTTP statuses of a temporary problem; None is no answer."""

BACKOFF_SECONDS = 1.0
"""Upper bound of the first random delay; that of each further delay is twice as long."""

MAX_RETRY_AFTER_SECONDS = 30
"""Upper bound of the delay that a server requests with ``Retry-After``."""

JSON_HEADERS = {"Accept": "application/json"}

T = TypeVar("T")


@dataclass(frozen=True)
class Request(Generic[T]):
    """
    A request; its answer has JSON of type T.

    :ivar path: below the address of the server.
    :ivar query: parameters, or the text after the question mark.
    :ivar body: sent as JSON; None for a request without a body.
    :ivar is_idempotent: whether the request may be retried.
    :ivar read_timeout: seconds to wait for the answer, if they are more than those of the session.
    """

    method: str
    path: str
    query: Mapping[str, Any] | str = ""
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_idempotent: bool = True
    read_timeout: float = 0


@dataclass(frozen=True)
class Answer(Generic[T]):
    """
    A successful answer.

    :ivar next_query: query of the next page, from the header ``Link``; empty on the last page. The rest of
        the link is not used, so no answer can redirect the client, and its token, to another server.
    """

    body: T
    next_query: str


class HttpSession:
    """
    Send requests to one server.

    :param root: address of the server, with or without a slash at its end.
    :param auth: authenticates each request; ``None`` for no authentication.
    :param timeout: seconds to connect, and to wait for each part of the answer.
    :raises ValueError: the address is invalid; the message never shows a secret.
    """

    def __init__(self, root: str, auth: httpx.Auth | None, timeout: float) -> None:
        self.root = validate_url(root)
        self._client = httpx.Client(headers=JSON_HEADERS, auth=auth, timeout=timeout)

    def send(self, request: Request[T]) -> Answer[T]:
        """
        Send a request.

        :raises RequestRejected: status 3xx or 4xx, or the answer is not JSON.
        :raises ServerUnreachable: no answer, or status 5xx.
        """
        return Retrying(**_retry_policy(request))(self._attempt, request)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _attempt(self, request: Request[T]) -> Answer[T]:
        with _connection_errors(self.root):
            response = self._client.request(**_arguments(self.root, request, self._client.timeout))
        return parse_response(self.root, response)


class AsyncHttpSession:
    """Send requests to one server, as :class:`HttpSession` does, without blocking the event loop."""

    def __init__(self, root: str, auth: httpx.Auth | None, timeout: float) -> None:
        self.root = validate_url(root)
        self._client = httpx.AsyncClient(headers=JSON_HEADERS, auth=auth, timeout=timeout)

    async def send(self, request: Request[T]) -> Answer[T]:
        """Send a request; see :meth:`HttpSession.send`."""
        return await AsyncRetrying(**_retry_policy(request))(self._attempt, request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _attempt(self, request: Request[T]) -> Answer[T]:
        with _connection_errors(self.root):
            response = await self._client.request(**_arguments(self.root, request, self._client.timeout))
        return parse_response(self.root, response)


def validate_url(url: str) -> str:
    """
    Return an HTTP address without the slash at its end.

    :raises ValueError: it is not an HTTP address, or contains user or password; the message does not show it.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError("uri: expected an address without user and password")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("uri: expected an address like http://host:8080/event-hooks")
    return url.rstrip("/")


def validate_token(token: str) -> str:
    """
    Return a token without the white space around it.

    :raises ValueError: a header cannot contain it; the message does not show it.
    """
    token = token.strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ValueError("token: expected printable ASCII characters without spaces")
    return token


def parse_json(content: bytes) -> Any:
    """Return the JSON of an answer, or None if it is not JSON."""
    try:
        return json.loads(content)
    except ValueError:
        return None


def _arguments(root: str, request: Request[Any], timeout: httpx.Timeout) -> dict[str, Any]:
    """
    Return the arguments of ``httpx.Client.request``.

    :param timeout: of the session.
    """
    seconds = timeout.as_dict()
    if seconds["read"] is not None:
        seconds["read"] = max(seconds["read"], request.read_timeout)
    return {
        "timeout": httpx.Timeout(**seconds),
        "method": request.method,
        "url": root + request.path,
        "params": request.query or None,
        "json": request.body,
        "headers": request.headers,
    }


@contextmanager
def _connection_errors(root: str) -> Iterator[None]:
    try:
        yield
    except httpx.RequestError as error:
        raise ServerUnreachable(f"no answer from {root}: {_root_cause(error)}") from error


def _root_cause(error: BaseException) -> str:
    """Return the message of the innermost error; httpx, httpcore and anyio wrap it in different ways."""
    while isinstance(cause := error.__cause__ or _first_argument(error), BaseException):
        error = cause
    return str(error) or type(error).__name__


def _first_argument(error: BaseException) -> object:
    """Return the first error of a group, or the first argument of another error."""
    return next(iter(error.exceptions if isinstance(error, BaseExceptionGroup) else error.args), None)


def parse_response(root: str, response: httpx.Response) -> Answer[Any]:
    """
    Return a successful answer.

    :raises RequestRejected: status 3xx or 4xx, or the answer is not JSON.
    :raises ServerUnreachable: status 5xx.
    """
    status, body = response.status_code, parse_json(response.content)
    if status >= 300:
        message, retry_after = error_message(status, response.headers, body), _retry_after(response.headers)
        if status >= 500:
            raise ServerUnreachable(f"{root} answers {status}: {message}", status, retry_after)
        advice = f" ({ADVICE[status]})" if status in ADVICE else ""
        raise RequestRejected(message + advice, status, retry_after)
    if body is None:
        raise RequestRejected(f"the answer of {root} is not JSON: check the address", status)
    return Answer(body, urlsplit(response.links.get("next", {}).get("url", "")).query)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in ``Retry-After``, which has a number of seconds or a date."""
    value = headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    date = parsedate_tz(value)
    return max(mktime_tz(date) - time.time(), 0) if date else None


def _retry_policy(request: Request[Any]) -> dict[str, Any]:
    """Return the arguments of tenacity's ``Retrying`` and ``AsyncRetrying``."""
    return {
        "stop": stop_after_attempt(1 + MAX_RETRIES * request.is_idempotent),
        "retry": retry_if_exception(_is_temporary),
        "wait": _seconds_to_wait,
        "reraise": True,
    }


def _is_temporary(error: BaseException) -> bool:
    if isinstance(error, RequestRejected) and error.status is None:
        return False  # an answer that is no HTTP error, such as that of another server
    return isinstance(error, ClientError) and error.status in RETRY_STATUSES


def _seconds_to_wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, ClientError) and error.retry_after is not None:
        return min(error.retry_after, MAX_RETRY_AFTER_SECONDS)
    return wait_random_exponential(multiplier=BACKOFF_SECONDS)(state)
