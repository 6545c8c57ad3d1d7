"""A run's events, written down before anything is done for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from event_hooks.events import EventBatch
from event_hooks.ledger.records import Received, key_in_run, key_of

if TYPE_CHECKING:
    from event_hooks.ledger.ledger import Ledger


def record(ledger: Ledger, conf: object, run_id: str, source: str) -> dict[int, str]:
    """
    Accept the events that a run has brought.

    :param conf: of the run; its events were checked.
    :return: what was known before, and is not done again: ``{position: run id of the first arrival}``.
    """
    there = {entry.position for entry in ledger.events_of(run_id)}
    received, positions = [], []
    for position, event in enumerate(EventBatch.from_conf(conf).events):
        if position in there:  # accepted before the run was started, or by an earlier try
            continue
        key_here, named = key_in_run(run_id, position), event.event_id
        key = key_here if named is None else key_of(event.type, named)
        received.append(Received(key, event.type, event.genome, event.payload(), source))
        positions.append(position)
    entries = ledger.accept(received, run_id, positions)
    return {
        position: entry.run_id or ""
        for position, entry in zip(positions, entries, strict=True)
        if (entry.run_id, entry.position) != (run_id, position)
    }
