"""
Requests to a server, as the client makes them: limited in time, repeated where that is harmless.

* ClientError           what a caller of the client has to expect
  + RequestRejected      the server said no              the same again cannot help
  + ServerUnreachable   no answer, or none that helps   the same again may help

These stand apart from ``exceptions.py``, because the client does without Airflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

if TYPE_CHECKING:
    from collections.abc import Mapping

RETRIES = 3
PASSING = (502, 503, 504)
"""Statuses that another moment may change."""

PAUSE = 0.5
"""Seconds before the second repetition, twice as many before the third; the first comes at once."""

LONGEST_PAUSE = 30
"""Seconds, whatever the server asks for."""

ADVICE = {
    401: "log in with user and password, or give another token: one is good for a day",
    403: "this user has no right to do that, or the token is too old: ask for the right, or log in again",
}


class ClientError(Exception):
    """Base of what the client raises."""


class RequestRejected(ClientError):
    """
    The server said no.

    :ivar status: of HTTP.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{reason} ({ADVICE[status]})" if status in ADVICE else reason)
        self.status = status


class ServerUnreachable(ClientError):
    """The server does not answer, or cannot do it now."""


class HttpSession:
    """
    Send requests to one server.

    :param root: address, without a slash at its end.
    :param token: for ``Authorization: BearerAuth``; none is sent without.
    :param timeout: seconds to connect, and to wait for each part of the answer.
    :raises ValueError: the address or the token cannot be used; neither is shown if it holds a secret.
    """

    def __init__(self, root: str, token: str | None, timeout: float) -> None:
        self.root = checked(root)
        self.timeout = timeout
        auth = BearerAuth(token) if token else None
        self._once, self._patient = (_session(auth, retries) for retries in (0, RETRIES))

    def ask(
        self, method: str, path: str, *, is_idempotent: bool = True, **given: Any
    ) -> tuple[Any, requests.Response]:
        """
        Send a request, and give the JSON of its answer, and the answer.

        :param path: below the address.
        :param is_idempotent: whether doing it twice is as good as once.
        :param given: what ``requests`` shall send.
        :raises RequestRejected: status 3xx or 4xx, or the answer is no JSON.
        :raises ServerUnreachable: no answer, or status 5xx.
        """
        session = self._patient if is_idempotent else self._once
        try:
            answer = session.request(
                method, self.root + path, timeout=self.timeout, allow_redirects=False, **given
            )
        except requests.RequestException as error:
            raise ServerUnreachable(f"no answer from {self.root}: {_innermost(error)}") from error
        told = parse_json(answer)
        if answer.status_code >= 500:
            raise ServerUnreachable(
                f"{self.root} answers {answer.status_code}: {error_message(told, answer)}"
            )
        if answer.status_code >= 300:
            raise RequestRejected(answer.status_code, error_message(told, answer))
        if told is None:
            raise RequestRejected(
                answer.status_code, f"{self.root} answers no JSON: is it the right address?"
            )
        return told, answer


class BearerAuth(requests.auth.AuthBase):
    """Sends a token; a ``~/.netrc`` then has no say."""

    def __init__(self, token: str) -> None:
        self.token = token.strip()
        if not (self.token.isascii() and self.token.isprintable()) or " " in self.token:
            raise ValueError("token: expected one word of ASCII signs")

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def checked(root: str) -> str:
    """
    Give an address without a slash at its end.

    :raises ValueError: it is none, or holds a password; it is not shown.
    """
    parts = urlsplit(root)
    if "@" in parts.netloc:
        raise ValueError("uri: expected no user and password in it")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("uri: expected an address like http://host:8080/event-hooks")
    return root.rstrip("/")


def _session(auth: BearerAuth | None, retries: int) -> requests.Session:
    again = Retry(
        total=retries,
        status_forcelist=PASSING,
        allowed_methods=None,  # any: the caller knows what is harmless
        backoff_factor=PAUSE,
        retry_after_max=LONGEST_PAUSE,
        raise_on_status=False,
    )
    session = requests.Session()
    session.auth = auth
    session.mount("http://", HTTPAdapter(max_retries=again))
    session.mount("https://", HTTPAdapter(max_retries=again))
    return session


def _innermost(error: BaseException) -> str:
    """Give the reason without the layers that libraries have put around it."""
    while isinstance(inner := getattr(error, "reason", None) or next(iter(error.args), None), BaseException):
        error = inner
    return str(error)


def parse_json(answer: requests.Response) -> Any:
    """Give what an answer holds; None if that is no JSON."""
    try:
        return answer.json()
    except ValueError:
        return None


def error_message(told: Any, answer: requests.Response) -> str:
    """Give what the API, or Airflow, says of its refusal."""
    if answer.is_redirect:
        return f"moved to {answer.headers['Location']}: give that address"
    said: Mapping[str, Any] = told if isinstance(told, dict) else {}
    return str(said.get("error") or said.get("detail") or f"{answer.status_code} {answer.reason}")
