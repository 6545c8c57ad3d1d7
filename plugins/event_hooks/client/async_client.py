"""Client of the event API for programs with an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, overload

from event_hooks.client import endpoints
from event_hooks.client.client import DEFAULT_URI, TIMEOUT_SECONDS, EventFilter, RetryMode, build_auth
from event_hooks.client.endpoints import Event, Events, Pages, Polling
from event_hooks.client.http import AsyncHttpSession, Request, T

if TYPE_CHECKING:
    from event_hooks.client.results import (
        ActionResponse,
        BatchItemResponse,
        EventDetails,
        EventSummary,
        JobResponse,
        PlanComparison,
        PlanResponse,
        StopResponse,
        SubmitResponse,
    )


class AsyncEventClient:
    """
    The methods of :class:`EventClient`, with the same parameters, results and errors.

    They are coroutines; ``follow``, ``find_events`` and ``list`` return asynchronous iterators.
    """

    def __init__(
        self,
        uri: str = DEFAULT_URI,
        token: str | None = None,
        *,
        login: tuple[str, str] | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self._http = AsyncHttpSession(uri, build_auth(uri, token, login), timeout)
        self.uri = self._http.root

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    @overload
    async def submit(self, events: Event, idempotency_key: str | None = None) -> SubmitResponse: ...

    @overload
    async def submit(
        self, events: Sequence[Event], idempotency_key: str | None = None
    ) -> Sequence[BatchItemResponse]: ...

    async def submit(self, events: Events, idempotency_key: str | None = None) -> Any:
        return await self._send(endpoints.submit(events, idempotency_key))

    async def plan(self, events: Events, idempotency_key: str | None = None) -> PlanResponse:
        return await self._send(endpoints.plan(events, idempotency_key))

    async def compare_plans(
        self,
        since: datetime | str,
        *,
        until: datetime | str | None = None,
        event_lookup: Mapping[str, Any] | None = None,
        process_lookup: Mapping[str, Any] | None = None,
    ) -> PlanComparison:
        return await self._send(endpoints.compare_plans(since, until, event_lookup, process_lookup))

    async def event(self, event_id: int) -> EventDetails:
        return await self._send(endpoints.event(event_id))

    async def follow(
        self,
        event_ids: Iterable[int],
        *,
        interval: float = 2,
        timeout: float | None = None,  # noqa: ASYNC109 (as in EventClient)
    ) -> AsyncIterator[EventSummary]:
        polling = Polling(event_ids, interval, timeout)
        while polling.unfinished:
            for request in polling.requests():
                for event in polling.take(await self._http.send(request)):
                    yield event
            await asyncio.sleep(polling.delay())

    def find_events(
        self,
        *,
        state: EventFilter | None = None,
        type: str | None = None,
        genome: str | None = None,
        since: datetime | str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[EventSummary]:
        return self._list(endpoints.find_events(state, type, genome, since, limit), limit)

    async def retry(
        self,
        event_ids: Iterable[int] | None = None,
        *,
        mode: RetryMode = "failed_jobs",
        process: str | None = None,
        state: EventFilter | None = None,
        type: str | None = None,
        genome: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        dry_run: bool = False,
        force: bool = False,
    ) -> ActionResponse:
        filters = {"state": state, "type": type, "genome": genome, "process": process, "mode": mode}
        flags = {"dry_run": dry_run, "force": force}
        return await self._send(endpoints.act("retry", event_ids, since, until, {**filters, **flags}))

    async def stop(
        self,
        event_ids: Iterable[int] | None = None,
        *,
        process: str | None = None,
        state: EventFilter | None = None,
        type: str | None = None,
        genome: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        dry_run: bool = False,
        force: bool = False,
    ) -> ActionResponse:
        filters = {"state": state, "type": type, "genome": genome, "process": process}
        flags = {"dry_run": dry_run, "force": force}
        return await self._send(endpoints.act("stop", event_ids, since, until, {**filters, **flags}))

    async def events(self) -> Sequence[str]:
        return await self._send(endpoints.EVENT_TYPES)

    async def processes(self) -> Sequence[str]:
        return await self._send(endpoints.PROCESSES)

    def list(self, process: str, *, limit: int | None = None) -> AsyncIterator[JobResponse]:
        return self._list(endpoints.list_jobs(process, limit), limit)

    async def retrieve(self, process: str, job_id: int, email: str | None = None) -> JobResponse:
        return await self._send(endpoints.retrieve(process, job_id, email))

    async def failures(self, process: str, job_id: int) -> dict[str, str]:
        return await self._send(endpoints.failures(process, job_id))

    async def delete(self, process: str, job_id: int) -> StopResponse:
        return await self._send(endpoints.delete(process, job_id))

    async def _send(self, request: Request[T]) -> T:
        return (await self._http.send(request)).body

    async def _list(self, request: Request[Sequence[T]], limit: int | None) -> AsyncIterator[T]:
        pages = Pages(request, limit)
        while pages.request:
            for item in pages.take(await self._http.send(pages.request)):
                yield item
