"""A run's events, written down before anything is done for them."""

from __future__ import annotations

from event_hooks.events import EventBatch
from event_hooks.ledger.ledger import Ledger, Received, key_in_run, key_of


def record(ledger: Ledger, conf: object, run_id: str, source: str) -> dict[int, str]:
    """
    Accept the events that a run has brought.

    :param conf: of the run; its events were checked.
    :return: what was known before, and is not done again: ``{position: run id of the first arrival}``.
    """
    received = []
    for position, event in enumerate(EventBatch.from_conf(conf).events):
        key_here, named = key_in_run(run_id, position), event.event_id
        key = key_here if named is None else key_of(event.type, named)
        received.append(Received(key, event.type, event.genome, event.payload(), source))
    entries = ledger.accept(received, run_id)
    return {
        position: entry.run_id or ""
        for position, entry in enumerate(entries)
        if (entry.run_id, entry.position) != (run_id, position)
    }
