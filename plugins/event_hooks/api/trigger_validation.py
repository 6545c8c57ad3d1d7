"""
Refuse a wrong event when it is triggered, over REST and from the web page alike.

Airflow checks each of a DAG's params by itself. Whether they make an event together (a type is there, or a
batch, and not both) it cannot ask, and it would start a run that fails. This middleware asks first.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
from airflow.api_fastapi.core_api.security import resolve_user_from_token
from fastapi import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from event_hooks import metrics, settings
from event_hooks.events import lookups
from event_hooks.events.models import EventBatch
from event_hooks.exceptions import EventInvalid, LookupInvalid
from event_hooks.process_event import planning
from event_hooks.process_event.runs import build_note

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

ROUTE = f"/api/v2/dags/{settings.DAG_ID}/dagRuns"
"""Where runs are triggered: the web page posts to it as well."""


class TriggerValidation:
    """Answer 400 with the reason to a known caller whose ``conf`` holds no event that can be run."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything else on as it came."""
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith(ROUTE):
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        body = await request.body()
        # In a thread: a large batch takes a while to read, and other requests shall not wait for it.
        if await _is_known(request):
            reason, body = await asyncio.to_thread(_checked, body)
            if reason:
                log.info("Refused an event: %s", reason)
                metrics.rejected("api")
                await JSONResponse({"detail": reason}, 400)(scope, receive, send)
                return
            headers = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
            scope = {**scope, "headers": [*headers, (b"content-length", str(len(body)).encode())]}
        await self.app(scope, _again(body, receive), send)


def _checked(body: bytes) -> tuple[str | None, bytes]:
    """
    Give what is wrong with the events of a request, and its body with the events' comments as the run's note.

    What is wrong is None also where Airflow itself will refuse the request.
    """
    try:
        asked = json.loads(body)
        batch = EventBatch.from_conf(asked.get("conf") or {})
        batch.reject_internal_fields()
        planning.plan_batch(batch, lookups.load_cached())
        if not asked.get("note") and (note := build_note([event.payload() for event in batch.events])):
            body = json.dumps({**asked, "note": note}).encode()
    except EventInvalid as error:
        return str(error), body
    except LookupInvalid as error:
        log.warning("Events go unchecked: %s", error)
    except (ValueError, AttributeError):
        log.debug("No JSON object: Airflow will say so")
    except RecursionError:
        return "conf: expected fewer levels of objects and arrays", body
    return None, body


async def _is_known(request: Request) -> bool:
    """Tell whether the caller has logged in; who has not gets Airflow's own 401."""
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    token = bearer if scheme.lower() == "bearer" else request.cookies.get(COOKIE_NAME_JWT_TOKEN)
    try:
        return bool(await resolve_user_from_token(token))
    except HTTPException:
        return False


def _again(body: bytes, receive: Receive) -> Receive:
    """Give the body, which was read here, to the next who asks."""
    unread = [body]

    async def replay() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return replay
