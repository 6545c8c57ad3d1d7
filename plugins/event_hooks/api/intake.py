"""From a request's events to their jobs: first the ledger, then the hives, then the run that watches."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from event_hooks import settings
from event_hooks.api.batcher import Batcher
from event_hooks.api.hive_pool import HivePool, JobIds
from event_hooks.api.run_starter import RunStarter, Start
from event_hooks.events import lookups
from event_hooks.events.models import Event, EventBatch, build_job_input
from event_hooks.exceptions import EventHooksError, EventInvalid
from event_hooks.hive import perl
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.processes import load_statuses, store_jobs
from event_hooks.ledger.records import (
    EventRequest,
    NewEvent,
    ProcessStatus,
    State,
    StoredEvent,
    event_key,
    idempotency_event_key,
)
from event_hooks.process_event import planning

if TYPE_CHECKING:
    from event_hooks.events.lookups import Lookups

log = structlog.get_logger(__name__)

SHOWN = 20
"""Ids that a line of the log has of each kind."""

SOURCE = "api"


@dataclass(frozen=True)
class AcceptedEvent:
    """An event that the ledger has, with what became of its jobs so far."""

    entry: StoredEvent
    processes: list[ProcessStatus]
    problems: dict[str, str]
    """``{process: why its job is not there yet}``."""


class EventIntake:
    """
    Takes events in, for all requests of this process.

    What comes in while the ledger or a hive is busy shares the next transaction there.
    """

    def __init__(self, start: Start) -> None:
        self._ledger: Ledger | None = None
        self.hives = HivePool()
        self._watch = RunStarter(self.ledger, start)
        self._taking = Batcher("take in", self._watch.take)
        self._noting = Batcher("note jobs", self._note)

    def ledger(self) -> Ledger:
        """
        Give the ledger; it is opened once.

        :raises LedgerUnreachable: if it cannot be.
        """
        if self._ledger is None:
            self._ledger = Ledger()
        return self._ledger

    async def take(self, batch: EventBatch, user: str, name: str | None = None) -> list[AcceptedEvent]:
        """
        Write events down, and submit their jobs.

        :param name: the request's ``Idempotency-Key``, if it has one.
        :raises EventInvalid: nothing was written.
        :raises EventKeyConflict: nothing was written.
        :raises LedgerUnreachable: what was written is not known; the same again is harmless if it has an
            ``event_id`` or an ``Idempotency-Key``.
        """
        known_lookups = lookups.load_cached()
        arrival = await asyncio.to_thread(_arrival, batch, known_lookups, name)
        entries = await self._taking.do((arrival, user))
        standing = {
            entry.id: [ProcessStatus(entry.id, entry.position, *one) for one in sorted(processes)]
            for entry, processes in zip(entries, arrival.processes, strict=True)
            if entry.is_new and not arrival.claims  # else the ledger has decided what is done
        }
        if unread := [entry.id for entry in entries if entry.id not in standing]:
            known = await asyncio.to_thread(lambda: load_statuses(self.ledger(), unread))
            for entry in entries:
                standing.setdefault(entry.id, [])
            for one in known:
                standing[one.event_id].append(one)
        taken = await self._submit(entries, standing)
        _tell(taken, user)
        return taken

    async def close(self) -> None:
        """Finish what has come in."""
        await self._taking.close()
        await self._noting.close()
        await self.hives.close()
        await asyncio.to_thread(self._watch.close)
        if self._ledger:
            self._ledger.close()

    async def _submit(
        self, entries: Sequence[StoredEvent], standing: dict[int, list[ProcessStatus]]
    ) -> list[AcceptedEvent]:
        """Put the jobs that are missing into their hives, all hives at once."""
        found: dict[tuple[int, str], int | EventHooksError] = {}
        if settings.write_through():
            missing = await asyncio.to_thread(_missing, entries, standing)
            hives = list(missing)
            answers = await asyncio.gather(*(self._put(hive, missing[hive]) for hive in hives))
            for hive, answer in zip(hives, answers, strict=True):
                for one, text in missing[hive]:
                    known = answer if isinstance(answer, EventHooksError) else answer[one.analysis, text]
                    found[one.event_id, one.process] = known
            if jobs := {of: job_id for of, job_id in found.items() if isinstance(job_id, int)}:
                self._noting.begin(jobs)  # beside the answer: should it get lost, the run notes the same
        return [_taken(entry, standing[entry.id], found) for entry in entries]

    def _note(self, found: Sequence[Mapping[tuple[int, str], int]]) -> Sequence[None]:
        store_jobs(self.ledger(), {of: job_id for some in found for of, job_id in some.items()})
        return [None] * len(found)

    async def _put(self, hive: str, missing: Sequence[tuple[ProcessStatus, str]]) -> JobIds | EventHooksError:
        inputs: dict[str, list[str]] = {}
        for one, text in missing:
            inputs.setdefault(one.analysis, []).append(text)
        try:
            return await self.hives.submit(hive, inputs)
        except EventHooksError as error:
            ids = [one.event_id for one, _ in missing[:SHOWN]]
            log.warning("Events go on without their job ids", events=ids, hive=hive, reason=str(error))
            return error


def _tell(taken: Sequence[AcceptedEvent], user: str) -> None:
    """Leave a line with all ids by which an event is found again elsewhere."""
    log.info(
        "Events accepted",
        count=len(taken),
        new=sum(one.entry.is_new for one in taken),
        runs=list(dict.fromkeys(one.entry.run_id for one in taken))[:SHOWN],
        events=[one.entry.id for one in taken[:SHOWN]],
        jobs=[process.job_id for one in taken for process in one.processes][:SHOWN],
        user=user,
    )


def _missing(
    entries: Sequence[StoredEvent], standing: Mapping[int, Sequence[ProcessStatus]]
) -> dict[str, list[tuple[ProcessStatus, str]]]:
    """Give what is not in its hive yet, with its input: ``{hive: [(standing, input), …]}``."""
    missing: dict[str, list[tuple[ProcessStatus, str]]] = {}
    for entry in {entry.id: entry for entry in entries if entry.run_id}.values():
        for one in standing[entry.id]:
            if one.state == State.PLANNED and one.job_id is None:
                missing.setdefault(one.hive, []).append((one, _input(entry, one.process)))
    return missing


def _taken(
    entry: StoredEvent,
    standing: Sequence[ProcessStatus],
    found: Mapping[tuple[int, str], int | EventHooksError],
) -> AcceptedEvent:
    processes, problems = [], {}
    for one in standing:
        answer = found.get((entry.id, one.process))
        if isinstance(answer, int):
            one = replace(one, job_id=answer, state=State.SUBMITTED)
        elif answer:
            problems[one.process] = answer.public_message
        processes.append(one)
    return AcceptedEvent(entry, processes, problems)


def checked(body: object) -> EventBatch:
    """
    Read a request's body: an event, or an array of them.

    :raises EventInvalid: names the first wrong field and what was expected.
    """
    if isinstance(body, dict) and "events" in body:
        raise EventInvalid("events", "expected an event's fields; a batch is an array of events")
    batch = EventBatch.from_conf({"events": body} if isinstance(body, list) else body)
    batch.reject_internal_fields()
    return batch


def _arrival(batch: EventBatch, known: Lookups, name: str | None) -> EventRequest:
    planned = planning.plan_batch(batch, known)
    processes: list[list[tuple[str, str, str]]] = [[] for _ in batch.events]
    for process, positions in planned.items():
        for at in positions:
            found = known.processes[process]
            processes[at].append((process, found.hive_conn_id, found.analysis))
    received = [
        NewEvent(
            key(event, at, name) or idempotency_event_key(uuid4().hex, at),
            event.type,
            event.genome,
            event.payload(),
            SOURCE,
        )
        for at, event in enumerate(batch.events)
    ]
    payloads = {at: event.payload() for at, event in enumerate(batch.events)}
    claims = planning.claims(payloads, planned, known)
    return EventRequest(
        received, processes, claims, idempotency_event_key(name, len(received)) if name else None
    )


def key(event: Event, position: int, name: str | None) -> str | None:
    """
    Give the key under which an event is known, as its sender has named it; None if they have not.

    :param position: in its request, from 0.
    :param name: the request's ``Idempotency-Key``, if it has one.
    :raises EventInvalid: if event and request are both named.
    """
    if event.event_id is None:
        return idempotency_event_key(name, position) if name else None
    if name:
        raise EventInvalid("event_id", "expected none beside the header Idempotency-Key, which does the same")
    return event_key(event.type, event.event_id)


def _input(entry: StoredEvent, process: str) -> str:
    task_id = planning.submit_task(process)
    return perl.dumps(build_job_input(entry.payload, entry.position, entry.run_id or "", task_id))
