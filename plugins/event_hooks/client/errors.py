"""
Errors of the client, and the messages of the answers that cause them.

* ClientError             base class of the client's errors
  + RequestRejected       the server rejects the request              a retry cannot help
  + ServerUnreachable     the server does not answer, or with 5xx     a retry may help

They are not in ``exceptions.py``, because that module needs Airflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from http.client import responses
from typing import Any

_LOG_IN = "log in with --user NAME, or log_in() of event_hooks.client, for a new token"
ADVICE = {
    401: f"{_LOG_IN}; this token is missing or expired",
    403: f"this user has no permission, or the token is wrong: ask for the permission, or {_LOG_IN}",
}
"""How to fix the error, by HTTP status."""


class ClientError(Exception):
    """
    Base class of the client's errors.

    :ivar status: HTTP status of the answer; None without an answer.
    :ivar retry_after: seconds after which the server asks for a retry, if it does.
    """

    def __init__(self, message: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class RequestRejected(ClientError):
    """The server rejects the request."""


class ServerUnreachable(ClientError):
    """The server does not answer, or cannot process the request now."""


def error_message(status: int, headers: Mapping[str, str], body: Any) -> str:
    """
    Return the message of an unsuccessful answer: of the event API, of Airflow or of HTTP.

    :param headers: case-insensitive, as HTTP libraries have them.
    :param body: JSON of the answer, or None.
    """
    if 300 <= status < 400 and "Location" in headers:
        return f"moved to {headers['Location']}: use that address"
    problem = body if isinstance(body, dict) else {}
    fields = _field_messages(problem.get("errors"))
    if len(fields) > 1:
        return "; ".join(fields)
    return str(problem.get("detail") or problem.get("error") or f"{status} {responses.get(status, '')}")


def _field_messages(errors: Any) -> list[str]:
    """Return a message for each invalid field or parameter; other servers may have other ``errors``."""
    fields = [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    named = [(field.get("pointer") or field.get("parameter"), field.get("detail")) for field in fields]
    return [f"{name}: {detail}" for name, detail in named if name and detail]
