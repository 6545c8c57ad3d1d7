"""Retry and stop events for the routes: select them, apply the request, and build the response."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from fastapi import HTTPException

from event_hooks.api.action_models import (
    MAX_EVENTS,
    MAX_FORCED_EVENTS,
    ActionItem,
    ActionResponse,
)
from event_hooks.api.times import parse_time
from event_hooks.events import lookups
from event_hooks.exceptions import EventHooksError
from event_hooks.ledger import overview
from event_hooks.ledger.clock import load_time
from event_hooks.ledger.user_requests import RequestedProcess, RetryMode, list_requested_stops
from event_hooks.ledger.views import EventFilter
from event_hooks.process_event import user_requests
from event_hooks.process_event.repetitions import build_repetition_request, plan_repetitions

if TYPE_CHECKING:
    from event_hooks.api.action_models import Mode, Selection
    from event_hooks.api.intake import EventIntake
    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.user_requests import ProcessKey
    from event_hooks.ledger.views import EventView
    from event_hooks.process_event.repetitions import Repetition
    from event_hooks.process_event.user_requests import Candidate, ClearTasks

log = logging.getLogger(__name__)

CHANGED = "its state has changed meanwhile, or another event has claimed it: repeat the request"


async def load_event(intake: EventIntake, event_id: int, process: str | None) -> list[EventView]:
    """
    Return one event.

    :raises HTTPException: 404, the event does not exist, or does not have the process.
    """
    events = await asyncio.to_thread(lambda: overview.load_event_views(intake.ledger(), [event_id]))
    if not events:
        raise HTTPException(404, f"event {event_id}: the ledger has no such event")
    names = [view.process for view in events[0].processes]
    if process is not None and process not in names:
        raise HTTPException(404, _describe_unknown_process(process, names))
    return events


async def select_events(intake: EventIntake, selection: Selection) -> list[EventView]:
    """
    Return the events that a request selects, the oldest first.

    :raises HTTPException: 404, an id does not exist, or no selected event has the process; 422, more events
        match than the request may select.
    """
    limit = MAX_FORCED_EVENTS if selection.force else MAX_EVENTS
    events = await asyncio.to_thread(lambda: _load_selected(intake, selection, limit))
    if len(events) > limit:
        advice = "select fewer" if selection.force else "select fewer, or set force to true"
        raise HTTPException(422, f"force: expected at most {limit} events, and more match: {advice}")
    names = {view.process for event in events for view in event.processes}
    if events and selection.process not in (None, *names):
        raise HTTPException(404, _describe_unknown_process(str(selection.process), names))
    return sorted(events, key=lambda event: event.id)


def _describe_unknown_process(process: str, names: Collection[str]) -> str:
    expected = f"one of {', '.join(sorted(names))}" if names else "no process, because the events have none"
    return f"process: expected {expected}, not {process[:100]!r}"


def _load_selected(intake: EventIntake, selection: Selection, limit: int) -> list[EventView]:
    ledger = intake.ledger()
    event_filter = _build_filter(selection, ledger)
    if selection.ids is None:
        if event_filter == EventFilter():
            raise HTTPException(422, "body: expected ids, state, type, genome, since or until")
        return overview.list_events(ledger, event_filter, limit=limit + 1)
    if event_filter != EventFilter():
        raise HTTPException(422, "ids: expected no state, type, genome, since or until with ids")
    ids = list(dict.fromkeys(selection.ids))
    events = overview.load_event_views(ledger, ids)
    if missing := sorted(set(ids) - {event.id for event in events}):
        raise HTTPException(404, f"event {missing[0]}: the ledger has no such event")
    return events


def _build_filter(selection: Selection, ledger: Ledger) -> EventFilter:
    now = load_time(ledger)  # of the ledger's clock, like the times of arrival
    since, until = selection.since, selection.until
    return EventFilter(
        state=selection.state,
        type=selection.type,
        genome_pattern=selection.genome,
        since=None if since is None else parse_time("since", since, now),
        until=None if until is None else parse_time("until", until, now),
    )


class UserActions:
    """
    Retry and stop events.

    :param clear_tasks: clears tasks in Airflow.
    """

    def __init__(self, intake: EventIntake, clear_tasks: ClearTasks) -> None:
        self._intake = intake
        self._clear_tasks = clear_tasks
        self._clear_lock = Lock()

    async def retry(
        self,
        events: Sequence[EventView],
        process: str | None,
        mode: Mode,
        user: str,
        *,
        is_dry_run: bool = False,
        is_filtered: bool = False,
    ) -> ActionResponse:
        """
        Retry the processes of events; idempotent.

        The request is in the ledger before Airflow clears the tasks. If this is interrupted, the poller of
        the API server clears them.

        :param is_filtered: as in :func:`event_hooks.process_event.user_requests.plan_retries`.
        :raises HTTPException: 422, ``mode`` and ``process`` do not fit together.
        """
        if mode == "event":
            if process is not None:
                raise HTTPException(422, "process: expected no process with the mode event")
            return await self._repeat(events, user, is_dry_run=is_dry_run, is_filtered=is_filtered)
        retry_mode = RetryMode(mode)
        candidates = user_requests.plan_retries(events, process, retry_mode, is_filtered=is_filtered)
        if is_dry_run:
            return _build_response(events, candidates, None)
        request = partial(self._request_retries, candidates, retry_mode, user)
        return _build_response(events, candidates, *await asyncio.to_thread(request))

    def _request_retries(
        self, candidates: Sequence[Candidate], mode: RetryMode, user: str
    ) -> tuple[set[ProcessKey], list[str]]:
        ledger = self._intake.ledger()
        retried = user_requests.request_retries(ledger, candidates, mode, user)
        try:
            self.clear_requested_tasks()
        except Exception:  # the request is recorded, and the poller clears the tasks
            log.exception("Tasks of retried processes could not be cleared; the API server retries")
            return retried, ["Airflow has not cleared the tasks yet; the API server retries"]
        return retried, []

    def clear_requested_tasks(self) -> None:
        """Clear the tasks of all processes that users retry, so that Airflow runs them again; idempotent."""
        with self._clear_lock:
            count = user_requests.clear_requested_tasks(self._intake.ledger(), self._clear_tasks)
        if count:
            log.info("Tasks of %s retried processes cleared", count)

    async def stop(
        self, events: Sequence[EventView], process: str | None, user: str, *, is_dry_run: bool = False
    ) -> ActionResponse:
        """
        Stop the processes of events; idempotent.

        The request is in the ledger before the jobs are stopped. If this is interrupted, the poller of the
        API server stops them.
        """
        candidates = user_requests.plan_stops(events, process)
        if is_dry_run:
            return _build_response(events, candidates, None)
        request = partial(user_requests.request_stops, candidates=candidates, user=user)
        stopped = await asyncio.to_thread(lambda: request(self._intake.ledger()))
        keys = {candidate.key for candidate in candidates}
        requests = [request for request in await self._list_stops() if request.key in keys]
        errors = await self._stop_in_hives(requests)
        for error in errors:
            log.warning("Jobs are not stopped yet; the API server retries: %s", error)
        return _build_response(events, candidates, stopped, [error.public_message for error in errors])

    async def stop_requested_jobs(self) -> None:
        """
        Stop the jobs of all processes that users stop; idempotent.

        A running job may have created further jobs since the request.

        :raises EventHooksError: a hive did not answer; the jobs of the others are stopped.
        """
        for error in await self._stop_in_hives(await self._list_stops()):
            raise error

    async def _list_stops(self) -> list[RequestedProcess]:
        return await asyncio.to_thread(lambda: list_requested_stops(self._intake.ledger()))

    async def _stop_in_hives(self, requests: Sequence[RequestedProcess]) -> list[EventHooksError]:
        """Stop the jobs of processes in all hives concurrently, and return the errors of hives."""
        by_hive = user_requests.group_stops(requests)
        errors = await asyncio.gather(*(self._stop_in_hive(hive, by_hive[hive]) for hive in by_hive))
        return [error for error in errors if error]

    async def _stop_in_hive(self, hive: str, requests: Sequence[RequestedProcess]) -> EventHooksError | None:
        stop = partial(user_requests.stop_requested_jobs, ledger=self._intake.ledger(), requests=requests)
        try:
            await self._intake.hives.run(hive, stop)
        except EventHooksError as error:
            return error
        return None

    async def _repeat(
        self, events: Sequence[EventView], user: str, *, is_dry_run: bool, is_filtered: bool
    ) -> ActionResponse:
        loaded, ledger = lookups.load_cached(), await asyncio.to_thread(self._intake.ledger)
        plan = partial(plan_repetitions, ledger, events, loaded, is_filtered=is_filtered)
        repetitions = await asyncio.to_thread(plan)
        accepted = [repetition for repetition in repetitions if repetition.new_event]
        new_ids: dict[int, int] = {}
        if accepted and not is_dry_run:
            request = await asyncio.to_thread(build_repetition_request, accepted, loaded)
            stored = await self._intake.accept_request(request, user)
            new_ids = {
                repetition.event.id: item.event.id for repetition, item in zip(accepted, stored, strict=True)
            }
        items = [_build_repetition_item(repetition, new_ids) for repetition in repetitions]
        applied = sum(item.is_applied for item in items)
        return ActionResponse(
            events=len(events), applied=applied, is_dry_run=is_dry_run, items=items, problems=[]
        )


def _build_response(
    events: Sequence[EventView],
    candidates: Sequence[Candidate],
    applied: Collection[ProcessKey] | None,
    problems: Sequence[str] = (),
) -> ActionResponse:
    """
    Return the response.

    :param applied: ``None`` in a dry run.
    """
    items = [_build_item(candidate, applied) for candidate in candidates]
    return ActionResponse(
        events=len(events),
        applied=sum(item.is_applied for item in items),
        is_dry_run=applied is None,
        items=items,
        problems=list(problems),
    )


def _build_item(candidate: Candidate, applied: Collection[ProcessKey] | None) -> ActionItem:
    is_planned = candidate.reason is None
    is_applied = is_planned and (applied is None or candidate.key in applied)
    event, process = candidate.event, candidate.process
    return ActionItem(
        event=event.id,
        type=event.type,
        genome=event.genome,
        process=process.process,
        state=process.state,
        is_applied=is_applied,
        reason=CHANGED if is_planned and not is_applied else candidate.reason,
        new_event=None,
    )


def _build_repetition_item(repetition: Repetition, new_ids: dict[int, int]) -> ActionItem:
    event = repetition.event
    return ActionItem(
        event=event.id,
        type=event.type,
        genome=event.genome,
        process=None,
        state=event.state,
        is_applied=repetition.new_event is not None,
        reason=repetition.reason,
        new_event=new_ids.get(event.id),
    )
