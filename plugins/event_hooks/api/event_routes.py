"""Routes that show events, as the ledger has them; no hive is queried."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response

from event_hooks.api import models
from event_hooks.api.links import MAX_ID, build_board_url, link_next_page
from event_hooks.api.models import describe_errors
from event_hooks.api.security import MAY_READ
from event_hooks.api.times import EXPECTED_TIME, parse_time
from event_hooks.events import lookups
from event_hooks.ledger import overview
from event_hooks.ledger.clock import load_time
from event_hooks.ledger.views import EventFilter
from event_hooks.masking import mask_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.views import EventView

router = APIRouter(tags=["events"])

MAX_PAGE_SIZE = 100

EventId = Annotated[int, Path(ge=1, le=MAX_ID, description="Id of the event in the ledger.")]
Id = Annotated[int, Query(ge=1, le=MAX_ID)]
Since = Annotated[str | None, Query(description=f"Earliest time of arrival: {EXPECTED_TIME}.")]


@router.get(
    "/events",
    dependencies=[MAY_READ],
    response_model=list[models.EventSummary] | list[str],
    responses=describe_errors(404, 422, 502, 503),
)
async def list_events(
    request: Request,
    response: Response,
    state: Annotated[
        Literal["open", "failed", "complete"] | None,
        Query(description="open: a process is unfinished; failed: a process is, or the event is rejected."),
    ] = None,
    event_type: Annotated[str | None, Query(alias="type", max_length=255)] = None,
    genome: Annotated[str | None, Query(max_length=255, description="Beginning of the genome.")] = None,
    run: Annotated[str | None, Query(max_length=250, description="Id of the run.")] = None,
    since: Since = None,
    event_ids: Annotated[
        list[Id] | None,
        Query(alias="id", max_length=MAX_PAGE_SIZE, description="Only these events; without another filter."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE, description="Events per page.")] = MAX_PAGE_SIZE,
    cursor: Annotated[
        int | None, Query(ge=1, le=MAX_ID, description="From the header Link of the previous page.")
    ] = None,
) -> Any:
    """
    List events without their payloads, newest first; the header `Link` has the URL of the next page.

    Without any parameter, the event types are listed, as in the old event app.
    """
    if not request.query_params:
        return lookups.load_cached().event_types
    if event_ids:
        if len(set(request.query_params)) > 1:
            raise HTTPException(422, "id: expected no further parameter")
        return _build_summaries(request, await _load_events(request, event_ids))
    event_filter = EventFilter(state, event_type, genome, run)
    events = await _read(request, lambda ledger: _list_events(ledger, event_filter, since, cursor, limit + 1))
    if len(events) > limit:
        link_next_page(request, response, limit=limit, cursor=events[limit - 1].id)
    return _build_summaries(request, events[:limit])


def _list_events(
    ledger: Ledger, event_filter: EventFilter, since: str | None, cursor: int | None, limit: int
) -> list[EventView]:
    if since is not None:
        event_filter = replace(event_filter, since=parse_time("since", since, load_time(ledger)))
    return overview.list_events(ledger, event_filter, cursor, limit)


@router.get("/events/types", dependencies=[MAY_READ], responses=describe_errors(502, 503))
async def list_event_types() -> list[str]:
    """List the event types."""
    return lookups.load_cached().event_types


@router.get(
    "/events/{event_id}",
    dependencies=[MAY_READ],
    response_model=models.EventDetails,
    responses=describe_errors(404, 422, 502, 503),
)
async def show_event(event_id: EventId, request: Request) -> models.EventDetails:
    """Show the state of an event and its processes, with the payload of the event; its secrets are masked."""
    stored = await _read(request, lambda ledger: overview.load_event_view(ledger, event_id))
    if stored is None:
        raise _not_found(event_id)
    view, payload = stored
    return models.EventDetails.model_validate(
        {**_build_summary(request, view), "event": mask_secrets(payload)}
    )


async def _load_events(request: Request, event_ids: list[int]) -> list[EventView]:
    events: list[EventView] = await _read(
        request, lambda ledger: overview.load_event_views(ledger, event_ids)
    )
    if missing := sorted(set(event_ids) - {event.id for event in events}):
        raise _not_found(missing[0])
    return events


async def _read(request: Request, query: Callable[[Ledger], Any]) -> Any:
    intake = request.app.state.intake
    return await asyncio.to_thread(lambda: query(intake.ledger()))


def _not_found(event_id: int) -> HTTPException:
    return HTTPException(404, f"event {event_id}: the ledger has no such event")


def _build_summaries(request: Request, events: list[EventView]) -> list[models.EventSummary]:
    return [models.EventSummary.model_validate(_build_summary(request, event)) for event in events]


def _build_summary(request: Request, event: EventView) -> dict[str, Any]:
    url = build_board_url(request, event.id)
    return {**vars(event), "state": event.state, "is_finished": event.is_finished, "url": url}
