"""Routes that retry and stop events, one by one or by a filter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request

from event_hooks.api.action_models import (
    ActionResponse,
    BulkRetryRequest,
    BulkStopRequest,
    RetryRequest,
    StopRequest,
    describe_body,
)
from event_hooks.api.actions import load_event, select_events
from event_hooks.api.event_routes import EventId  # noqa: TC001 (FastAPI evaluates it)
from event_hooks.api.models import describe_errors
from event_hooks.api.request_body import read_model
from event_hooks.api.security import MAY_EDIT, User

if TYPE_CHECKING:
    from event_hooks.api.actions import UserActions

router = APIRouter(tags=["actions"], dependencies=[MAY_EDIT])

ERRORS = describe_errors(400, 404, 408, 413, 415, 422, 502, 503)


@router.post(
    "/events/{event_id}/retry",
    response_model=ActionResponse,
    openapi_extra=describe_body(RetryRequest),
    responses=ERRORS,
)
async def retry_event(event_id: EventId, request: Request, user: User) -> ActionResponse:
    """
    Retry the failed processes of an event, or one process.

    A repeated request changes nothing: a process that is unfinished is not retried. The jobs of a stopped
    process that were running when it was stopped may still run.
    """
    body = await read_model(request, RetryRequest)
    events = await load_event(request.app.state.intake, event_id, body.process)
    return await _actions(request).retry(events, body.process, body.mode, user.get_name())


@router.post(
    "/events/{event_id}/stop",
    response_model=ActionResponse,
    openapi_extra=describe_body(StopRequest),
    responses=ERRORS,
)
async def stop_event(event_id: EventId, request: Request, user: User) -> ActionResponse:
    """
    Stop the unfinished processes of an event, or one process.

    Jobs that have not started are stopped. Running jobs keep running, and the process is stopped when they
    have ended. A repeated request changes nothing.
    """
    body = await read_model(request, StopRequest)
    events = await load_event(request.app.state.intake, event_id, body.process)
    return await _actions(request).stop(events, body.process, user.get_name())


@router.post(
    "/retry",
    response_model=ActionResponse,
    openapi_extra=describe_body(BulkRetryRequest),
    responses=ERRORS,
)
async def retry_events(request: Request, user: User) -> ActionResponse:
    """
    Retry the failed processes of all events that match, as `POST /events/{event_id}/retry`.

    Without `ids`, processes that a user has stopped are left out.
    """
    body = await read_model(request, BulkRetryRequest)
    events = await select_events(request.app.state.intake, body)
    return await _actions(request).retry(
        events,
        body.process,
        body.mode,
        user.get_name(),
        is_dry_run=body.dry_run,
        is_filtered=body.ids is None,
    )


@router.post(
    "/stop",
    response_model=ActionResponse,
    openapi_extra=describe_body(BulkStopRequest),
    responses=ERRORS,
)
async def stop_events(request: Request, user: User) -> ActionResponse:
    """Stop the unfinished processes of all events that match, as `POST /events/{event_id}/stop`."""
    body = await read_model(request, BulkStopRequest)
    events = await select_events(request.app.state.intake, body)
    return await _actions(request).stop(events, body.process, user.get_name(), is_dry_run=body.dry_run)


def _actions(request: Request) -> UserActions:
    actions: UserActions = request.app.state.actions
    return actions
