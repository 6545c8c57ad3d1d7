"""
Reject an invalid event when a run is triggered, through the REST API and through the web UI.

Airflow validates each param of a DAG on its own. It cannot check their combination (either an event type or a
batch must be set, not both), and would start a run that fails. This middleware validates ``conf`` first. It
also rejects the ids of runs that event hooks starts itself, since their events may belong to other users.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

from fastapi import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from event_hooks import metrics, settings
from event_hooks.api.middleware import is_cross_site
from event_hooks.api.request_body import read_bytes
from event_hooks.api.security import PERMISSION_CHECKS
from event_hooks.events import lookups
from event_hooks.events.models import EventBatch
from event_hooks.exceptions import EventInvalid, LookupInvalid
from event_hooks.process_event import planning, runs
from event_hooks.runtime.api_server import COOKIE_NAME_JWT_TOKEN, find_user, is_permitted

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

ROUTE = f"/api/v2/dags/{settings.DAG_ID}/dagRuns"
"""Airflow's route that triggers runs; the web UI uses it too."""


class TriggerValidation:
    """
    Respond with 400 and the reason to invalid events in ``conf``, if the user has the permission to trigger.

    A body that is longer than the setting ``max_body_bytes`` gets 413, a slow body 408, and a request that a
    page of another site has sent 403.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass all other requests to Airflow unchanged."""
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith(ROUTE):
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        if is_cross_site(scope):
            await JSONResponse({"detail": "Origin: expected a page of this site"}, 403)(scope, receive, send)
            return
        if not await _may_trigger(request):  # Airflow answers with its own 401 or 403
            await self.app(scope, receive, send)
            return
        try:
            body = await read_bytes(request)
        except HTTPException as error:
            response = JSONResponse({"detail": error.detail}, error.status_code, error.headers)
            await response(scope, receive, send)
            return
        # In a thread: the validation of a large batch would block the event loop.
        if reason := await asyncio.to_thread(_find_problem, body):
            log.info("Rejected an event: %s", reason)
            metrics.count_rejected("api")
            await JSONResponse({"detail": reason}, 400)(scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), send)


def _find_problem(body: bytes) -> str | None:
    """Return why the events of a request are invalid; ``None`` if Airflow itself rejects the request."""
    try:
        fields = json.loads(body)
        conf = fields.get("conf") or {}
        if runs.is_own(str(fields.get("dag_run_id"))):
            return f"dag_run_id: expected no id with a prefix of event hooks: {', '.join(runs.OWN_PREFIXES)}"
        if runs.is_reference(conf):
            return f"conf.{runs.REFERENCE_KEY}: expected an event; only event hooks refers to the ledger"
        batch = EventBatch.from_conf(conf)
        batch.reject_internal_fields()
        planning.plan_batch(batch, lookups.load_cached())
    except EventInvalid as error:
        return str(error)
    except LookupInvalid as error:
        log.warning("Events are not validated: %s", error)
    except (ValueError, AttributeError):
        log.debug("The body is not a JSON object; Airflow rejects it")
    except RecursionError:
        return "conf: expected fewer levels of objects and arrays"
    return None


async def _may_trigger(request: Request) -> bool:
    """Return whether the request has the token of a user with the permission to trigger runs."""
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    token = bearer if scheme.lower() == "bearer" else request.cookies.get(COOKIE_NAME_JWT_TOKEN)
    user = await find_user(token)
    # In a thread: an auth manager may read its database.
    return user is not None and await asyncio.to_thread(
        is_permitted, PERMISSION_CHECKS["POST"], request, user
    )


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that yields a body that was read already."""
    unread = [body]

    async def replay() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return replay
