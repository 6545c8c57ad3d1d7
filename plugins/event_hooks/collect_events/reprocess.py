"""What was handed over before, and is done again: each time under an ``event_id`` of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from event_hooks.ledger.events import load_events_by_key
from event_hooks.ledger.processes import load_statuses
from event_hooks.ledger.records import BAD, NewEvent, ProcessStatus, StoredEvent, event_key

if TYPE_CHECKING:
    from event_hooks.events.lookups import Lookups
    from event_hooks.ledger.database import Ledger

SOURCE = "ensembl_metadata"


@dataclass(frozen=True)
class Candidate:
    """An event that is wanted, under the id that it has now, with what is known of it."""

    received: NewEvent
    planned: tuple[tuple[str, str, str], ...] = ()
    """(process, hive, analysis) of what is done again; empty if the lookup decides."""

    entry: StoredEvent | None = None
    is_mine: bool = True
    """Whether it is of the window, and not of the overlap before it."""


def received(payload: Mapping[str, Any]) -> NewEvent:
    """Give an event as the ledger takes it."""
    key = event_key(payload["type"], payload["event_id"])
    return NewEvent(key, payload["type"], payload["genome"], payload, SOURCE)


def failed_again(ledger: Ledger, known: Sequence[Candidate], lookups: Lookups) -> list[Candidate]:
    """Give the events of which a process failed, where all are over, with these processes alone."""
    last = list(latest(ledger, known))
    standing = standing_of(ledger, [one.entry for one, _ in last if one.entry])
    again = []
    for one, number in last:
        mine = standing[one.entry.id] if one.entry else []
        failed = tuple(
            (each.process, process.hive_conn_id, process.analysis)
            for each in mine
            if each.state in BAD and (process := lookups.processes.get(each.process))
        )
        if failed and all(each.is_finished for each in mine):
            again.append(replace(_renamed(one, f"#{number + 1}"), planned=failed))
    return again


def all_again(ledger: Ledger, known: Sequence[Candidate], asked_by: str, reason: str) -> list[Candidate]:
    """
    Give all events, by force; what the same run has asked for before is left out.

    :param asked_by: that run.
    """
    mark = hashlib.sha256(asked_by.encode()).hexdigest()[:8]
    again = [_renamed(one, f"#{mark}", force=True, reason=reason) for one in known]
    done = load_events_by_key(ledger, [one.received.key for one in again])
    return [one for one in again if one.received.key not in done]


def latest(ledger: Ledger, known: Sequence[Candidate]) -> Iterator[tuple[Candidate, int]]:
    """Give the last repetition of each event, with its number; the first time is 1."""
    number, left = 1, list(known)
    while left:
        following = [_renamed(one, f"#{number + 1}") for one in left]
        entries = load_events_by_key(ledger, [one.received.key for one in following])
        pairs = list(zip(left, following, strict=True))
        yield from ((one, number) for one, after in pairs if after.received.key not in entries)
        left = [
            replace(after, entry=entries[after.received.key])
            for _, after in pairs
            if after.received.key in entries
        ]
        number += 1


def standing_of(ledger: Ledger, entries: Sequence[StoredEvent]) -> dict[int, list[ProcessStatus]]:
    """Give how the processes of events stand: ``{event id: …}``."""
    standing: dict[int, list[ProcessStatus]] = {entry.id: [] for entry in entries}
    for one in load_statuses(ledger, list(standing)):
        standing[one.event_id].append(one)
    return standing


def _renamed(one: Candidate, mark: str, **more: Any) -> Candidate:
    payload = one.received.payload
    before = str(payload["event_id"]).partition("#")[0]
    return Candidate(received({**payload, "event_id": f"{before}{mark}", **more}))
