"""The FastAPI app that Airflow's API server mounts at ``/event-hooks``."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from event_hooks import metrics
from event_hooks.api import health, openapi, routes
from event_hooks.api.board import pages
from event_hooks.api.board.beekeeper_status import BeekeeperStatusCache
from event_hooks.api.health import HealthMonitor
from event_hooks.api.intake import EventIntake
from event_hooks.exceptions import (
    AnalysisNotFound,
    EventHooksError,
    EventInvalid,
    EventKeyConflict,
    EventTypeUnknown,
)
from event_hooks.process_event.runs import start_run_from_api

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from event_hooks.api.run_starter import StartRun

log = logging.getLogger(__name__)

DESCRIPTION = """
Submit events of the Ensembl staging server, and follow their processes and jobs.

Log in to Airflow first, or send `Authorization: Bearer <token>`. Every error is `{"error": "…"}`, and names
the field and the expected value.
"""

_STATUSES: dict[type[EventHooksError], int] = {
    EventTypeUnknown: 404,
    AnalysisNotFound: 404,
    EventInvalid: 422,
    EventKeyConflict: 409,
    EventHooksError: 503,  # the ledger, a hive or the lookups are unavailable
}
"""HTTP status of an error; the first matching class counts."""

AIRFLOW_DATABASE_ERRORS = (OperationalError, InterfaceError, PoolTimeoutError)
"""Errors of Airflow's own database, which the check of a login reads; those of ledger and hives are ours."""

RETRY_AFTER_SECONDS = 10
"""Header ``Retry-After`` of a 503."""

REJECTION_STATUSES = (400, 404, 409, 413, 415, 422)
"""Statuses of a POST request that the metric of rejected events counts."""


def create_app(start_run: StartRun = start_run_from_api) -> FastAPI:
    """
    Create the app; its connections are opened by the first request that needs them.

    :param start_run: starts a run, as in :class:`event_hooks.api.run_starter.RunStarter`.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.intake = intake = EventIntake(start_run)
        app.state.beekeepers = BeekeeperStatusCache(intake.hives)
        app.state.health = HealthMonitor(intake)
        yield
        await intake.close()

    app = FastAPI(
        title="event hooks",
        description=DESCRIPTION,
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # openapi.py serves all three to logged-in users only
    )
    app.add_middleware(_TrailingSlashMiddleware)
    for router in (routes.router, health.router, openapi.router, pages.router):
        app.include_router(router)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)
    app.add_exception_handler(EventHooksError, _handle_event_hooks_error)
    for error_class in AIRFLOW_DATABASE_ERRORS:
        app.add_exception_handler(error_class, _handle_airflow_database_error)
    app.add_exception_handler(Exception, _handle_unexpected_error)
    return app


class _TrailingSlashMiddleware:
    """Serve ``/jobs/`` like ``/jobs``, as the old event app does."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/"):
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        await self.app(scope, receive, send)


async def _handle_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return _error_response(request, error.status_code, str(error.detail), error.headers)


async def _handle_validation_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    return _error_response(request, 422, f"{first['loc'][-1]}: {first['msg']}")


async def _handle_event_hooks_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, EventHooksError):
        raise error
    status = next(status for error_class, status in _STATUSES.items() if isinstance(error, error_class))
    if status != 503:
        return _error_response(request, status, error.public_message)
    return _unavailable_response(request, error, error.public_message)


async def _handle_airflow_database_error(request: Request, error: Exception) -> Response:
    cause = getattr(error, "orig", None) or error  # without the statement and its parameters
    message = "Airflow's database does not answer; see the API server log"
    return _unavailable_response(request, cause, message)


def _unavailable_response(request: Request, error: BaseException, message: str) -> Response:
    log.warning("%s %s failed: %s", request.method, request.url.path, error)
    return _error_response(request, 503, message, {"Retry-After": str(RETRY_AFTER_SECONDS)})


async def _handle_unexpected_error(request: Request, error: Exception) -> Response:
    """Return a response without details; Starlette re-raises the error, and the API server logs it."""
    return _error_response(request, 500, "internal error; see the API server log")


def _error_response(
    request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an error as a page for the event board, and as JSON for all other routes."""
    if request.method == "POST" and status in REJECTION_STATUSES:
        metrics.count_rejected("api")
    response = (
        pages.render_error(request, status, detail)
        if pages.is_page(request)
        else JSONResponse({"error": detail}, status)
    )
    response.headers.update(headers or {})
    return response
