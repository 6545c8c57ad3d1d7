"""The requests of the event API, without I/O; :class:`EventClient` documents them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from math import inf
from typing import TYPE_CHECKING, Any, Generic
from urllib.parse import quote
from uuid import uuid4

from event_hooks.client.http import Answer, Request, T

if TYPE_CHECKING:
    from event_hooks.client.results import (
        ActionResponse,
        EventDetails,
        EventSummary,
        JobResponse,
        PlanComparison,
        PlanResponse,
        StopResponse,
    )

JOB_PAGE_SIZE = 1000
EVENT_PAGE_SIZE = 100
"""Events that one request lists."""

MAX_IDS = 100
"""Events that one request polls."""

REQUEST_SECONDS = 65
"""Timeout of a request that may take long: the API ends a request after 60 s."""

EVENT_TYPES: Request[Sequence[str]] = Request("GET", "/events")
PROCESSES: Request[Sequence[str]] = Request("GET", "/processes")

Event = Mapping[str, Any]
Events = Event | Sequence[Event]


def submit(events: Events, idempotency_key: str | None) -> Request[Any]:
    """Return the request that submits events; a mix of events with and without id is not idempotent."""
    has_id = [_has_event_id(event) for event in (events if isinstance(events, Sequence) else [events])]
    if idempotency_key is None and not any(has_id):
        idempotency_key = str(uuid4())
    is_idempotent = idempotency_key is not None or all(has_id)
    return replace(_post("/jobs", events, idempotency_key), is_idempotent=is_idempotent)


def plan(events: Events, idempotency_key: str | None) -> Request[PlanResponse]:
    """Return the request that plans events."""
    return _post("/plan", events, idempotency_key)


def compare_plans(
    since: datetime | str,
    until: datetime | str | None,
    event_lookup: Mapping[str, Any] | None,
    process_lookup: Mapping[str, Any] | None,
) -> Request[PlanComparison]:
    """Return the request that plans the events of a period again."""
    body = {
        "since": _format_time("since", since),
        "until": _format_time("until", until),
        "event_lookup": event_lookup,
        "process_lookup": process_lookup,
    }
    # A comparison that takes too long would take too long again: it is not retried.
    return Request("POST", "/plan/compare", body=body, is_idempotent=False, read_timeout=REQUEST_SECONDS)


def event(event_id: int) -> Request[EventDetails]:
    """Return the request for the state of an event."""
    return Request("GET", f"/events/{event_id}")


def find_events(
    state: str | None,
    event_type: str | None,
    genome: str | None,
    since: datetime | str | None,
    limit: int | None,
) -> Request[Sequence[EventSummary]]:
    """Return the request for the first page of events."""
    filters = {"state": state, "type": event_type, "genome": genome, "since": _format_time("since", since)}
    query = {name: value for name, value in filters.items() if value is not None}
    return Request("GET", "/events", {**query, "limit": _page_size(limit, EVENT_PAGE_SIZE)})


def act(
    action: str,
    event_ids: Iterable[int] | None,
    since: datetime | str | None,
    until: datetime | str | None,
    fields: Mapping[str, Any],
) -> Request[ActionResponse]:
    """Return the request that retries or stops the events that match; ``None`` stands for no filter."""
    times = {"since": _format_time("since", since), "until": _format_time("until", until)}
    ids = None if event_ids is None else list(event_ids)
    body = {"ids": ids, **times, **fields}
    # A second retry in the mode event would repeat the event again if its first repetition is finished.
    is_idempotent = fields.get("mode") != "event"
    return Request(
        "POST",
        f"/{action}",
        body={name: value for name, value in body.items() if value is not None},
        is_idempotent=is_idempotent,
        read_timeout=REQUEST_SECONDS,
    )


def list_jobs(process: str, limit: int | None) -> Request[Sequence[JobResponse]]:
    """Return the request for the first page of jobs."""
    query = {"limit": _page_size(limit, JOB_PAGE_SIZE)}
    return Request("GET", f"/jobs/{quote(process, safe='')}", query)


def retrieve(process: str, job_id: int, email: str | None) -> Request[JobResponse]:
    """Return the request for a job."""
    query = {"format": "email", "email": email} if email else {}
    return Request("GET", _job_path(process, job_id), query)


def failures(process: str, job_id: int) -> Request[dict[str, str]]:
    """Return the request for the errors of a job tree."""
    return Request("GET", _job_path(process, job_id), {"format": "failures"})


def delete(process: str, job_id: int) -> Request[StopResponse]:
    """Return the request that stops a job tree."""
    return Request("DELETE", _job_path(process, job_id))


class Pages(Generic[T]):
    """
    The pages of a list.

    :ivar request: the request for the next page; None after the last one.
    :param limit: maximum number of items; None for all.
    """

    def __init__(self, request: Request[Sequence[T]], limit: int | None) -> None:
        self.request: Request[Sequence[T]] | None = request
        self._first_request = request
        self._remaining = sys.maxsize if limit is None else limit

    def take(self, answer: Answer[Sequence[T]]) -> Sequence[T]:
        """Return the items of a page, and select the next page."""
        items = answer.body[: self._remaining]
        self._remaining -= len(items)
        has_next = answer.next_query and self._remaining
        self.request = replace(self._first_request, query=answer.next_query) if has_next else None
        return items


class Polling:
    """
    The polls of events until all are finished.

    :ivar unfinished: ids of the events to poll.
    """

    def __init__(self, event_ids: Iterable[int], interval: float, timeout: float | None) -> None:
        self.unfinished = list(dict.fromkeys(event_ids))
        self._interval = interval
        self._timeout = inf if timeout is None else timeout
        self._deadline = time.monotonic() + self._timeout

    def requests(self) -> Sequence[Request[Sequence[EventSummary]]]:
        """Return the requests of one poll."""
        starts = range(0, len(self.unfinished), MAX_IDS)
        return [Request("GET", "/events", {"id": self.unfinished[i : i + MAX_IDS]}) for i in starts]

    def take(self, answer: Answer[Sequence[EventSummary]]) -> Sequence[EventSummary]:
        """Return the events of an answer; the next poll is without those that are finished."""
        finished = {event["id"] for event in answer.body if event["is_finished"]}
        self.unfinished = [event_id for event_id in self.unfinished if event_id not in finished]
        return answer.body

    def delay(self) -> float:
        """
        Return the seconds until the next poll; 0 if all events are finished.

        :raises TimeoutError: the next poll would be too late; the message names the unfinished events.
        """
        if not self.unfinished:
            return 0
        if time.monotonic() + self._interval > self._deadline:
            names = ", ".join(map(str, self.unfinished))
            raise TimeoutError(f"events not finished within {self._timeout:g} s: {names}")
        return self._interval


def _format_time(name: str, time: datetime | str | None) -> str | None:
    if not isinstance(time, datetime):
        return time
    if time.utcoffset() is None:
        raise ValueError(f"{name}: expected a time with a time zone, not {time.isoformat()}")
    return time.isoformat()


def _page_size(limit: int | None, max_size: int) -> int:
    return max_size if limit is None else min(limit, max_size)


def _post(path: str, events: Events, idempotency_key: str | None) -> Request[Any]:
    headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
    return Request("POST", path, body=events, headers=headers)


def _has_event_id(event: Any) -> bool:
    return isinstance(event, Mapping) and event.get("event_id") is not None


def _job_path(process: str, job_id: int) -> str:
    return f"/jobs/{quote(process, safe='')}/{job_id}"
