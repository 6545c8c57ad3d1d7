"""Addresses in the API's responses."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import Request, Response

MAX_ID = 2**63 - 1
"""Highest id of a database."""


def build_board_url(request: Request, event_id: int) -> str:
    """Return the path of an event's page on the event board."""
    return f"{_root(request)}/board/events/{event_id}"


def build_event_url(request: Request, event_id: int) -> str:
    """Return the path of an event in the API."""
    return f"{_root(request)}/events/{event_id}"


def link_next_page(request: Request, response: Response, **parameters: int) -> None:
    """Set the header ``Link`` to the next page: this request with other parameters."""
    page = request.url.include_query_params(**parameters)
    response.headers["Link"] = f'<{page.path}?{page.query}>; rel="next"'


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", ""))
