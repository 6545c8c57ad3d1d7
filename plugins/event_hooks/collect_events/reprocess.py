"""Process duplicates again. Each repetition is an event with an ``event_id`` of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from event_hooks.ledger.events import load_events_by_key
from event_hooks.ledger.processes import load_statuses
from event_hooks.ledger.records import FAILURE_STATES, NewEvent, ProcessStatus, StoredEvent, event_key

if TYPE_CHECKING:
    from event_hooks.events.lookups import Lookups
    from event_hooks.ledger.database import Ledger

SOURCE = "ensembl_metadata"
"""``source`` of these events in the ledger."""


@dataclass(frozen=True)
class Candidate:
    """An event that passes the filters, under its present ``event_id``."""

    new_event: NewEvent
    planned: tuple[tuple[str, str, str], ...]
    """(process, hive, analysis) of the processes that run."""

    stored_event: StoredEvent | None = None
    """The event in the ledger; ``None`` if the ledger does not have it, or was not read."""

    is_in_window: bool = True
    """False for an event of the overlap before the window."""

    @property
    def key(self) -> str:
        """Return the event's key in the ledger."""
        return self.new_event.key


def build_new_event(payload: Mapping[str, Any]) -> NewEvent:
    """Return a collected event in the form that the ledger stores."""
    key = event_key(payload["type"], payload["event_id"])
    return NewEvent(key, payload["type"], payload["genome"], payload, SOURCE)


def find_stored(ledger: Ledger, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that the ledger has, with ``stored_event``."""
    stored = load_events_by_key(ledger, [candidate.key for candidate in candidates])
    return [
        replace(candidate, stored_event=stored[candidate.key])
        for candidate in candidates
        if candidate.key in stored
    ]


def select_failed(ledger: Ledger, duplicates: Sequence[Candidate], lookups: Lookups) -> list[Candidate]:
    """
    Return repetitions of the events that are finished and failed, and of those that were rejected.

    The repetition of a failed event has only its failed processes. It does not count for joins, which have
    counted the original event.
    """
    latest = list(iter_latest(ledger, duplicates))
    statuses = load_statuses_by_event(
        ledger, [candidate.stored_event for candidate, _ in latest if candidate.stored_event]
    )
    repetitions = []
    for candidate, number in latest:
        if candidate.stored_event is None:
            continue
        event_statuses = statuses[candidate.stored_event.id]
        failed = tuple(
            lookups.find_place(status.process)
            for status in event_statuses
            if status.state in FAILURE_STATES and status.process in lookups.processes
        )
        if candidate.stored_event.rejected_reason and not event_statuses:
            repetitions.append(_repetition(candidate, f"#{number + 1}"))
        if failed and all(status.is_finished for status in event_statuses):
            repetition = _repetition(candidate, f"#{number + 1}")
            new_event = replace(repetition.new_event, counts_for_joins=False)
            repetitions.append(replace(repetition, new_event=new_event, planned=failed))
    return repetitions


def select_all(
    ledger: Ledger, duplicates: Sequence[Candidate], collect_run_id: str, reason: str
) -> list[Candidate]:
    """
    Return forced repetitions of all events, without those that the same run has already started.

    :param collect_run_id: the run that collects. Its digest is part of the repetitions' ids, so a retry of
        the run starts each repetition once.
    """
    digest = hashlib.sha256(collect_run_id.encode()).hexdigest()[:8]
    repetitions = [
        _repetition(candidate, f"#{digest}", force=True, reason=reason) for candidate in duplicates
    ]
    stored = load_events_by_key(ledger, [repetition.key for repetition in repetitions])
    return [repetition for repetition in repetitions if repetition.key not in stored]


def iter_latest(ledger: Ledger, duplicates: Sequence[Candidate]) -> Iterator[tuple[Candidate, int]]:
    """Yield the last stored repetition of each event, with its number; the original has number 1."""
    number, candidates = 1, list(duplicates)
    while candidates:
        repetitions = [_repetition(candidate, f"#{number + 1}") for candidate in candidates]
        stored = load_events_by_key(ledger, [repetition.key for repetition in repetitions])
        for candidate, repetition in zip(candidates, repetitions, strict=True):
            if repetition.key not in stored:
                yield candidate, number
        candidates = [
            replace(repetition, stored_event=stored[repetition.key])
            for repetition in repetitions
            if repetition.key in stored
        ]
        number += 1


def load_statuses_by_event(ledger: Ledger, events: Sequence[StoredEvent]) -> dict[int, list[ProcessStatus]]:
    """Return the statuses of the events' processes: ``{event id: statuses}``."""
    statuses: dict[int, list[ProcessStatus]] = {event.id: [] for event in events}
    for status in load_statuses(ledger, list(statuses)):
        statuses[status.event_id].append(status)
    return statuses


def _repetition(candidate: Candidate, suffix: str, **fields: Any) -> Candidate:
    payload = candidate.new_event.payload
    original_id = str(payload["event_id"]).partition("#")[0]
    new_event = build_new_event({**payload, "event_id": f"{original_id}{suffix}", **fields})
    return Candidate(new_event, candidate.planned)
