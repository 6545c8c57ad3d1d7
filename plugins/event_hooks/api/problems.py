"""Error responses: a page for the event board, and problem details (RFC 9457) for all other routes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from event_hooks import metrics
from event_hooks.api.board import pages
from event_hooks.api.security import RESPONSE_HEADERS
from event_hooks.exceptions import (
    AnalysisNotFound,
    EventHooksError,
    EventInvalid,
    EventKeyConflict,
    EventTypeUnknown,
    HiveRejected,
    LedgerRejected,
)

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

log = logging.getLogger(__name__)

_STATUSES: dict[type[EventHooksError], int] = {
    EventTypeUnknown: 404,
    AnalysisNotFound: 404,
    EventInvalid: 422,
    EventKeyConflict: 409,
    HiveRejected: 502,
    LedgerRejected: 502,
    EventHooksError: 503,  # the ledger, a hive or the lookups are unavailable
}
"""HTTP status of an error; the first matching class counts."""

AIRFLOW_DATABASE_ERRORS = (OperationalError, InterfaceError, PoolTimeoutError)
"""Errors of Airflow's own database, which the check of a login reads; those of ledger and hives are ours."""

RETRY_AFTER_SECONDS = 10
"""Header ``Retry-After`` of a 503."""

REJECTION_STATUSES = (400, 404, 408, 409, 413, 415, 422)
"""Statuses of a POST request that the metric of rejected events counts."""

MAX_ERRORS = 100
"""Invalid fields that one response lists."""

LOGIN_ADVICE = "log in to Airflow, or send a token of POST /auth/token as Authorization: Bearer <token>"

_LOGIN_PROBLEMS = {
    "Not authenticated": f"not logged in: {LOGIN_ADVICE}",
    "Token Expired": f"the token has expired: {LOGIN_ADVICE}",
    "Invalid JWT token": f"the token is invalid: {LOGIN_ADVICE}",
}
"""``{detail of Airflow's response: message}``; the status is 401, also where Airflow responds with 403."""


def add_handlers(app: FastAPI) -> None:
    """Add the handlers of all errors to an app."""
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)
    app.add_exception_handler(EventHooksError, _handle_event_hooks_error)
    for error_class in AIRFLOW_DATABASE_ERRORS:
        app.add_exception_handler(error_class, _handle_airflow_database_error)
    app.add_exception_handler(Exception, _handle_unexpected_error)


def build_response(
    request: Request,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, str]] = (),
) -> Response:
    """
    Return an error response, and count the rejection of events.

    :param errors: of single fields, as in :class:`event_hooks.api.models.FieldError`.
    """
    if request.method == "POST" and status in REJECTION_STATUSES:
        metrics.count_rejected("api")
    response = (
        pages.render_error(request, status, detail)
        if pages.is_page(request)
        else JSONResponse(
            build_problem(status, detail, errors), status, media_type="application/problem+json"
        )
    )
    response.headers.update(headers or {})
    return response


def build_problem(status: int, detail: str, errors: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    """Return the fields of :class:`event_hooks.api.models.Problem`."""
    title = HTTPStatus(status).phrase
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail, "error": detail}
    return problem | ({"errors": list(errors)} if errors else {})


async def _handle_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    status, detail, headers = error.status_code, str(error.detail), dict(error.headers or {})
    if detail in _LOGIN_PROBLEMS:
        status, detail = 401, _LOGIN_PROBLEMS[detail]
    match status:
        case 401:
            headers.setdefault("WWW-Authenticate", 'Bearer realm="Airflow"')
        case 403 if detail == "Forbidden":
            detail = "permission denied: ask an administrator of Airflow for it"
        case 405:
            headers["Allow"] = ", ".join(_list_methods(request))
            detail = f"method: expected {headers['Allow']}, not {request.method}"
    return build_response(request, status, detail, headers)


def _list_methods(request: Request) -> list[str]:
    """Return the methods of a request's path; Starlette's ``Allow`` has those of one route only."""
    return sorted(
        method
        for route in request.app.routes
        if route.matches(request.scope)[0] != Match.NONE
        for method in route.methods
    )


async def _handle_validation_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    errors = [{"parameter": _find_name(item["loc"]), "detail": str(item["msg"])} for item in error.errors()]
    return build_response(
        request, 422, "; ".join(f"{item['parameter']}: {item['detail']}" for item in errors), errors=errors
    )


def _find_name(steps: Sequence[str | int]) -> str:
    """Return the name of a parameter or of a field of the body, as in ``ids.0``."""
    names = [str(step) for step in steps[steps[:1] in (("query",), ("path",), ("header",)) :]]
    return ".".join(names) or "body"


async def _handle_event_hooks_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, EventHooksError):
        raise error
    status = next(status for error_class, status in _STATUSES.items() if isinstance(error, error_class))
    if status == 503:
        return _build_unavailable_response(request, error, error.public_message)
    if status == 502:
        log.warning("%s %s failed: %s", request.method, request.url.path, error)
    return build_response(request, status, error.public_message, errors=_list_errors(error))


def _list_errors(error: EventHooksError) -> list[dict[str, str]]:
    """Return the invalid fields that an error names, at most ``MAX_ERRORS``."""
    match error:
        case EventInvalid():
            fields = error.fields
        case EventKeyConflict():
            fields = [(error.field, str(error))]
        case _:
            fields = []
    return [{"pointer": field.pointer, "detail": detail} for field, detail in fields[:MAX_ERRORS]]


async def _handle_airflow_database_error(request: Request, error: Exception) -> Response:
    cause = getattr(error, "orig", None) or error  # without the statement and its parameters
    message = "Airflow's database does not answer; see the API server log"
    return _build_unavailable_response(request, cause, message)


def _build_unavailable_response(request: Request, error: BaseException, message: str) -> Response:
    log.warning("%s %s failed: %s", request.method, request.url.path, error)
    return build_response(request, 503, message, {"Retry-After": str(RETRY_AFTER_SECONDS)})


async def _handle_unexpected_error(request: Request, error: Exception) -> Response:
    """Return a response without details; Starlette re-raises the error, and the API server logs it."""
    # Starlette's handler of all exceptions is outside of the middleware that adds the headers.
    return build_response(request, 500, "internal error; see the API server log", RESPONSE_HEADERS)
