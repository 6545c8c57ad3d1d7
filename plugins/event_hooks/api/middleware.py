"""Middleware of all routes: security headers, a time limit, and no requests across sites."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request

from event_hooks import settings
from event_hooks.api import problems
from event_hooks.api.security import RESPONSE_HEADERS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_SECONDS = 60
"""Maximum time of a request: more than those of the ledger and of a hive together."""

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class TrailingSlash:
    """Serve ``/jobs/`` like ``/jobs``, as the old event app does."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Remove the slash from the path."""
        if scope["type"] == "http" and scope["path"].endswith("/"):
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        await self.app(scope, receive, send)


class SecurityHeaders:
    """Add the security headers to each response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers that the response lacks."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in RESPONSE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)


class RejectCrossSite:
    """Respond with 403 to a request that the page of another site has sent with the cookie of a login."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass all other requests on."""
        if scope["type"] == "http" and is_cross_site(scope):
            detail = "Origin: expected a page of this site; other programs send a token in Authorization"
            response = problems.build_response(Request(scope), 403, detail)
            await response(scope, receive, send)
            return
        await self.app(scope, receive, send)


class TimeLimit:
    """Respond with 503 to a request that takes longer than ``REQUEST_SECONDS``."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """End the request; an operation that runs in a thread ends with its own timeout."""
        is_started = False

        async def send_and_note(message: Message) -> None:
            nonlocal is_started
            is_started = True
            await send(message)

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(REQUEST_SECONDS) as timer:
                await self.app(scope, receive, send_and_note)
        except TimeoutError:
            if is_started or not timer.expired():
                raise
            detail = f"no result within {REQUEST_SECONDS} s; what was requested may still happen"
            response = problems.build_response(
                Request(scope), 503, detail, {"Retry-After": str(problems.RETRY_AFTER_SECONDS)}
            )
            await response(scope, receive, send)


def is_cross_site(scope: Scope) -> bool:
    """
    Return whether the page of another site has sent a request that changes something.

    Browsers set ``Sec-Fetch-Site`` and ``Origin`` themselves. A request with ``Authorization`` is accepted: a
    page of another site cannot set it, unless ``[api] access_control_allow_origins`` of Airflow permits it.
    """
    headers = Headers(scope=scope)
    if scope["method"] in SAFE_METHODS or "Authorization" in headers:
        return False
    if (site := headers.get("Sec-Fetch-Site")) is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("Origin")
    own_hosts = (headers.get("Host"), urlsplit(settings.airflow_uri()).netloc)
    return origin is not None and urlsplit(origin).netloc not in own_hosts
