"""The app that Airflow's API server mounts at ``/event-hooks``."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from event_hooks import metrics
from event_hooks.api import health, openapi, routes
from event_hooks.api.board import pages
from event_hooks.api.board.beekeeper_status import BeekeeperStatusCache
from event_hooks.api.health import Health
from event_hooks.api.intake import EventIntake
from event_hooks.api.run_starter import Start
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

log = logging.getLogger(__name__)

DESCRIPTION = """
Events of the Ensembl staging server, the jobs that they become, and how these end.

Log in to Airflow first, or send `Authorization: Bearer <token>`. Every error is `{"error": "…"}`, and names
the field and what was expected.
"""

_STATUSES: dict[type[EventHooksError], int] = {
    EventTypeUnknown: 404,
    AnalysisNotFound: 404,
    EventInvalid: 422,
    EventKeyConflict: 409,
    EventHooksError: 503,  # ledger, hive or lookups cannot be used now
}

WRONG = (400, 404, 409, 413, 415, 422)
"""Statuses of an event that is refused as it is."""


def create_app(start: Start = start_run_from_api) -> FastAPI:
    """
    Make the app; it opens its connections with its first request.

    :param start: starts a run, as :class:`event_hooks.api.run_starter.Watch` takes it.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.intake = intake = EventIntake(start)
        app.state.beekeepers = BeekeeperStatusCache(intake.hives)
        app.state.health = Health(intake)
        yield
        await intake.close()

    app = FastAPI(
        title="event hooks",
        description=DESCRIPTION,
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # docs.py has them, behind the login
    )
    app.add_middleware(_WithoutSlash)
    for router in (routes.router, health.router, openapi.router, pages.router):
        app.include_router(router)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(EventHooksError, _failed)
    app.add_exception_handler(Exception, _unexpected)
    return app


class _WithoutSlash:
    """Takes ``/jobs/`` for ``/jobs``, as the event app did."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/"):
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        await self.app(scope, receive, send)


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return _answer(request, error.status_code, str(error.detail), error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    return _answer(request, 422, f"{first['loc'][-1]}: {first['msg']}")


async def _failed(request: Request, error: Exception) -> Response:
    if not isinstance(error, EventHooksError):
        raise error
    status = next(status for kind, status in _STATUSES.items() if isinstance(error, kind))
    if status == 503:
        log.warning("Could not do %s %s: %s", request.method, request.url.path, error)
    return _answer(request, status, error.public_message, {"Retry-After": "10"} if status == 503 else None)


async def _unexpected(request: Request, error: Exception) -> Response:
    """Answer without a trace of it; Starlette passes the error on, and the server's log has it."""
    return _answer(request, 500, "something went wrong here; the API server's log tells what")


def _answer(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Say what went wrong, to a program or to a person."""
    if request.method == "POST" and status in WRONG:
        metrics.rejected("api")
    if pages.is_page(request):
        return pages.problem(request, status, detail)
    return JSONResponse({"error": detail}, status, headers=headers)
