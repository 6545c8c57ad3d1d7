"""
HTTP requests of the client, with timeouts; idempotent requests are retried.

* ClientError             base class of the client's errors
  + RequestRejected       the server rejects the request              a retry cannot help
  + ServerUnreachable     the server does not answer, or with 5xx     a retry may help

They are not in ``exceptions.py``, because that module needs Airflow.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

MAX_RETRIES = 3
RETRY_STATUSES = (502, 503, 504)
"""HTTP statuses of a temporary problem."""

BACKOFF_SECONDS = 0.5
"""urllib3 retries at once, then after twice this time, then after four times this time."""

MAX_RETRY_AFTER_SECONDS = 30
"""Upper bound of the delay that a server requests with ``Retry-After``."""

ADVICE = {
    401: "log in with user and password, or use another token: a token is valid for a day",
    403: "this user has no permission, or the token is too old: ask for the permission, or log in again",
}
"""How to fix the error, by HTTP status."""


class ClientError(Exception):
    """Base class of the client's errors."""


class RequestRejected(ClientError):
    """
    The server rejects the request.

    :ivar status: HTTP status of the answer.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{reason} ({ADVICE[status]})" if status in ADVICE else reason)
        self.status = status


class ServerUnreachable(ClientError):
    """The server does not answer, or cannot process the request now."""


class HttpSession:
    """
    Send requests to one server.

    :param root: address of the server, with or without a slash at its end.
    :param token: sent as ``Authorization: Bearer``; without a token, the header is not sent.
    :param timeout: seconds to connect, and to wait for each part of the answer.
    :raises ValueError: the address or the token is invalid; the message never shows a secret.
    """

    def __init__(self, root: str, token: str | None, timeout: float) -> None:
        self.root = validate_url(root)
        self.timeout = timeout
        auth = BearerAuth(token) if token else None
        self._session = _build_session(auth, 0)
        self._retrying_session = _build_session(auth, MAX_RETRIES)

    def request(
        self, method: str, path: str, *, is_idempotent: bool = True, **options: Any
    ) -> tuple[Any, requests.Response]:
        """
        Send a request; return the JSON of the answer, and the answer.

        :param path: path below the address.
        :param is_idempotent: whether the request may be retried.
        :param options: further arguments of ``requests.Session.request``.
        :raises RequestRejected: status 3xx or 4xx, or the answer is not JSON.
        :raises ServerUnreachable: no answer, or status 5xx.
        """
        session = self._retrying_session if is_idempotent else self._session
        try:
            response = session.request(
                method, self.root + path, timeout=self.timeout, allow_redirects=False, **options
            )
        except requests.RequestException as error:
            raise ServerUnreachable(f"no answer from {self.root}: {_root_cause(error)}") from error
        return self._check_response(response), response

    def _check_response(self, response: requests.Response) -> Any:
        """Return the JSON of a successful answer."""
        status, body = response.status_code, parse_json(response)
        if status >= 500:
            raise ServerUnreachable(f"{self.root} answers {status}: {error_message(body, response)}")
        if status >= 300:
            raise RequestRejected(status, error_message(body, response))
        if body is None:
            raise RequestRejected(status, f"the answer of {self.root} is not JSON: check the address")
        return body


class BearerAuth(requests.auth.AuthBase):
    """Send a token; ``requests`` then ignores ``~/.netrc``."""

    def __init__(self, token: str) -> None:
        self.token = token.strip()
        if not (self.token.isascii() and self.token.isprintable()) or " " in self.token:
            raise ValueError("token: expected printable ASCII characters without spaces")

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


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


def parse_json(response: requests.Response) -> Any:
    """Return the JSON of an answer, or None if it is not JSON."""
    try:
        return response.json()
    except ValueError:
        return None


def error_message(body: Any, response: requests.Response) -> str:
    """
    Return the error message of the event API (``error``) or of Airflow (``detail``).

    :param body: JSON of the answer.
    """
    if response.is_redirect:
        return f"moved to {response.headers['Location']}: use that address"
    errors = body if isinstance(body, dict) else {}
    return str(errors.get("error") or errors.get("detail") or f"{response.status_code} {response.reason}")


def _build_session(auth: BearerAuth | None, max_retries: int) -> requests.Session:
    retry = Retry(
        total=max_retries,
        status_forcelist=RETRY_STATUSES,
        allowed_methods=None,  # All methods: the caller selects this session for idempotent requests only.
        backoff_factor=BACKOFF_SECONDS,
        retry_after_max=MAX_RETRY_AFTER_SECONDS,
        raise_on_status=False,
    )
    session = requests.Session()
    session.auth = auth
    session.mount("http://", HTTPAdapter(max_retries=retry))
    session.mount("https://", HTTPAdapter(max_retries=retry))
    return session


def _root_cause(error: BaseException) -> str:
    """Return the message of the innermost error; requests and urllib3 wrap it several times."""
    while isinstance(cause := getattr(error, "reason", None) or next(iter(error.args), None), BaseException):
        error = cause
    return str(error)
