"""Accept the events of a request: store them in the ledger, submit their jobs, and start a run for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from event_hooks import settings
from event_hooks.api.batcher import Batcher
from event_hooks.api.hive_pool import HivePool
from event_hooks.api.run_starter import RunStarter, StartRun
from event_hooks.events import lookups
from event_hooks.events.models import Event, EventBatch, build_job_input
from event_hooks.exceptions import EventHooksError, EventInvalid, EventKeyConflict
from event_hooks.field_path import FieldPath
from event_hooks.hive import perl
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.processes import load_statuses, store_jobs
from event_hooks.ledger.records import (
    EventRequest,
    NewEvent,
    ProcessState,
    ProcessStatus,
    StoredEvent,
    event_key,
    idempotency_event_key,
    random_event_key,
)
from event_hooks.process_event import planning

if TYPE_CHECKING:
    from event_hooks.events.lookups import Lookups

log = structlog.get_logger(__name__)

MAX_LOGGED_IDS = 20
"""Ids of each kind in one log line."""

SOURCE = "api"

KEY_HEADER = "Idempotency-Key"

ProcessKey = tuple[int, str]
"""(event id, process)."""


@dataclass(frozen=True)
class AcceptedEvent:
    """An event in the ledger, with its processes after the submission."""

    event: StoredEvent
    processes: list[ProcessStatus]
    problems: dict[str, str]
    """``{process: reason why its job is not in the hive yet}``."""

    @property
    def status_code(self) -> int:
        """202 while a process has no job, or the event no plan; otherwise 201, also for a duplicate."""
        if any(status.job_id is None and status.state == ProcessState.PLANNED for status in self.processes):
            return 202
        if not (self.processes or self.event.is_new or self.event.is_planned):
            return 202  # a duplicate that its run has not planned yet
        return 201


class EventIntake:
    """
    Accept events, for all requests of this process.

    Requests that arrive while the ledger or a hive is busy share the next transaction there.
    """

    def __init__(self, start_run: StartRun) -> None:
        self._ledger: Ledger | None = None
        self.hives = HivePool()
        self._run_starter = RunStarter(self.ledger, start_run)
        self._event_batcher = Batcher("accept events", self._run_starter.accept)
        self._job_id_batcher = Batcher("store job ids", self._store_job_ids)

    def ledger(self) -> Ledger:
        """
        Return the ledger; the first call opens it.

        :raises LedgerUnreachable: the ledger cannot be opened.
        """
        if self._ledger is None:
            self._ledger = Ledger()
        return self._ledger

    async def accept(
        self, batch: EventBatch, user: str, idempotency_key: str | None = None
    ) -> list[AcceptedEvent]:
        """
        Store events in the ledger, and submit their jobs.

        :param idempotency_key: the request's header ``Idempotency-Key``, if it has one.
        :raises EventInvalid: nothing was stored.
        :raises EventKeyConflict: nothing was stored.
        :raises LedgerUnreachable: the events may or may not be stored. The request can be repeated safely if
            its events have an ``event_id``, or it has an ``Idempotency-Key``.
        """
        request = await asyncio.to_thread(_build_request, batch, lookups.load_cached(), user, idempotency_key)
        try:
            return await self.accept_request(request, user)
        except EventKeyConflict as error:
            field = batch.find_field(error.position).child("event_id")
            raise EventKeyConflict(
                error.position, FieldPath(KEY_HEADER) if idempotency_key else field
            ) from None

    async def accept_request(self, request: EventRequest, user: str) -> list[AcceptedEvent]:
        """Store the events of a request, and submit their jobs; errors as in :meth:`accept`."""
        events = await self._event_batcher.submit((request, user))
        statuses = await self._load_statuses(request, events)
        accepted = await self._submit_jobs(events, statuses)
        _log_accepted(accepted, user)
        return accepted

    async def close(self) -> None:
        """Finish the accepted requests, start the open run, and close the connections."""
        await self._event_batcher.close()
        await self._job_id_batcher.close()
        await self.hives.close()
        await asyncio.to_thread(self._run_starter.close)
        if self._ledger:
            self._ledger.close()

    async def _load_statuses(
        self, request: EventRequest, events: Sequence[StoredEvent]
    ) -> dict[int, list[ProcessStatus]]:
        """Return ``{event id: its processes}``; new events without claims need no query."""
        statuses = {
            event.id: [ProcessStatus(event.id, event.position, *process) for process in sorted(processes)]
            for event, processes in zip(events, request.processes, strict=True)
            if event.is_new and not request.claims  # with claims, the ledger has selected the processes
        }
        if stored_ids := [event.id for event in events if event.id not in statuses]:
            statuses |= {event_id: [] for event_id in stored_ids}
            for status in await asyncio.to_thread(lambda: load_statuses(self.ledger(), stored_ids)):
                statuses[status.event_id].append(status)
        return statuses

    async def _submit_jobs(
        self, events: Sequence[StoredEvent], statuses: Mapping[int, Sequence[ProcessStatus]]
    ) -> list[AcceptedEvent]:
        """Submit the missing jobs, to all hives concurrently."""
        results: dict[ProcessKey, int | EventHooksError] = {}
        if settings.write_through():
            missing = await asyncio.to_thread(_find_missing_jobs, events, statuses)
            for hive_results in await asyncio.gather(*map(self._submit_to_hive, missing, missing.values())):
                results |= hive_results
            if job_ids := {key: job_id for key, job_id in results.items() if isinstance(job_id, int)}:
                # The response does not wait for it: if the write fails, the run stores the same job ids.
                self._job_id_batcher.submit_nowait(job_ids)
        return [_build_accepted(event, statuses[event.id], results) for event in events]

    def _store_job_ids(self, batch: Sequence[Mapping[ProcessKey, int]]) -> Sequence[None]:
        store_jobs(self.ledger(), {key: job_id for job_ids in batch for key, job_id in job_ids.items()})
        return [None] * len(batch)

    async def _submit_to_hive(
        self, hive: str, missing: Sequence[tuple[ProcessStatus, str]]
    ) -> dict[ProcessKey, int | EventHooksError]:
        inputs: dict[str, list[str]] = {}
        for status, job_input in missing:
            inputs.setdefault(status.analysis, []).append(job_input)
        try:
            job_ids = await self.hives.submit(hive, inputs)
        except EventHooksError as error:
            event_ids = [status.event_id for status, _ in missing[:MAX_LOGGED_IDS]]
            log.warning("Events accepted without job ids", events=event_ids, hive=hive, reason=str(error))
            return {(status.event_id, status.process): error for status, _ in missing}
        return {
            (status.event_id, status.process): job_ids[status.analysis, job_input]
            for status, job_input in missing
        }


def _log_accepted(accepted: Sequence[AcceptedEvent], user: str) -> None:
    """Log the ids that find the events in other logs, in the ledger and in the hives."""
    log.info(
        "Events accepted",
        count=len(accepted),
        new=sum(item.event.is_new for item in accepted),
        runs=list(dict.fromkeys(item.event.run_id for item in accepted))[:MAX_LOGGED_IDS],
        events=[item.event.id for item in accepted[:MAX_LOGGED_IDS]],
        jobs=[status.job_id for item in accepted for status in item.processes][:MAX_LOGGED_IDS],
        user=user,
    )


def _find_missing_jobs(
    events: Sequence[StoredEvent], statuses: Mapping[int, Sequence[ProcessStatus]]
) -> dict[str, list[tuple[ProcessStatus, str]]]:
    """Return the jobs that are not in their hives yet: ``{hive: [(status, job input), …]}``."""
    missing: dict[str, list[tuple[ProcessStatus, str]]] = {}
    for event in {event.id: event for event in events if event.run_id}.values():
        for status in statuses[event.id]:
            if status.state == ProcessState.PLANNED and status.job_id is None:
                missing.setdefault(status.hive, []).append((status, _job_input(event, status)))
    return missing


def _job_input(event: StoredEvent, status: ProcessStatus) -> str:
    task_id, run_id = planning.submit_task_id(status.process), event.run_id or ""
    return perl.dumps(build_job_input(event.payload, event.position, run_id, task_id, status.rerun))


def _build_accepted(
    event: StoredEvent,
    statuses: Sequence[ProcessStatus],
    results: Mapping[ProcessKey, int | EventHooksError],
) -> AcceptedEvent:
    processes, problems = [], {}
    for status in statuses:
        result = results.get((event.id, status.process))
        if isinstance(result, int):
            status = replace(status, job_id=result, state=ProcessState.SUBMITTED)
        elif result:
            problems[status.process] = result.public_message
        processes.append(status)
    return AcceptedEvent(event, processes, problems)


def parse_events(body: object) -> EventBatch:
    """
    Parse the JSON value of a request's body: one event, or an array of events.

    :raises EventInvalid: the message names the first invalid field and the expected value.
    """
    if isinstance(body, list):
        batch = EventBatch.from_list(body, FieldPath("events"))
    elif isinstance(body, dict) and "events" in body:
        raise EventInvalid("events", "expected an event's fields; a batch is an array of events")
    else:
        batch = EventBatch.from_event(body)
    batch.reject_internal_fields()
    return batch


def _build_request(
    batch: EventBatch, loaded: Lookups, user: str, idempotency_key: str | None
) -> EventRequest:
    new_events = [
        NewEvent(
            find_event_key(event, position, user, idempotency_key) or random_event_key(),
            event.type,
            event.genome,
            event.payload(),
            SOURCE,
        )
        for position, event in enumerate(batch.events)
    ]
    conflict_key = idempotency_event_key(user, idempotency_key, len(new_events)) if idempotency_key else None
    return planning.build_request(batch, new_events, loaded, conflict_key)


def find_event_key(event: Event, position: int, user: str, idempotency_key: str | None) -> str | None:
    """
    Return the key that identifies an event, or ``None`` if its sender has not identified it.

    :param position: in its request, from 0.
    :param user: the user that sends it: each user has idempotency keys of its own.
    :param idempotency_key: the request's header ``Idempotency-Key``, if it has one.
    :raises EventInvalid: both the event and the request are identified.
    """
    if event.event_id is None:
        return idempotency_event_key(user, idempotency_key, position) if idempotency_key else None
    if idempotency_key:
        expected = f"expected either an event_id or the header {KEY_HEADER}, not both"
        raise EventInvalid("event_id", expected)
    return event_key(event.type, event.event_id)
