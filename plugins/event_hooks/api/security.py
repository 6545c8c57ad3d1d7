"""
Permission checks, by Airflow's login and its permissions on ``process_event``, and security headers.

Every route names one of the three checks, because Airflow mounts the apps of plugins without any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, HTTPException, Request
from fastapi.dependencies.utils import get_flat_dependant

from event_hooks import settings
from event_hooks.runtime.api_server import BaseUser, get_user, is_permitted, require_run_permission

if TYPE_CHECKING:
    from fastapi.routing import APIRoute

PERMISSION_CHECKS = {
    method: require_run_permission(method, settings.DAG_ID) for method in ("GET", "POST", "PUT")
}


def _build_check(method: str) -> Any:
    """Return a dependency that checks the permission first, and then the query parameters."""

    async def check(request: Request, _: None = Depends(PERMISSION_CHECKS[method])) -> None:
        known = _list_parameters(request.scope["route"])
        if unknown := sorted(set(request.query_params) - known):
            names = f"one of {', '.join(sorted(known))}" if known else "no parameter"
            raise HTTPException(422, f"{unknown[0][:100]}: unknown parameter; expected {names}")
        for name, value in request.query_params.multi_items():
            if "\0" in value:  # PostgreSQL rejects it
                raise HTTPException(422, f"{name}: expected text without the character NUL")

    return Depends(check)


def _list_parameters(route: APIRoute) -> set[str]:
    """Return the names of the query parameters of a route."""
    return {str(field.alias) for field in get_flat_dependant(route.dependant).query_params}


MAY_READ, MAY_TRIGGER, MAY_EDIT = map(_build_check, ("GET", "POST", "PUT"))


def can_edit(request: Request, user: Annotated[BaseUser, Depends(get_user)]) -> bool:
    """Return whether the user that sent a request may retry and stop events."""
    return is_permitted(PERMISSION_CHECKS["PUT"], request, user)


CanEdit = Annotated[bool, Depends(can_edit)]
User = Annotated[BaseUser, Depends(get_user)]
"""The user that sent the request."""

RESPONSE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of each response that does not set them itself."""
