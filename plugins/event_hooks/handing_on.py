"""Hand on the events that follow from others to an event server."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from event_hooks.event_server import EventServerHook
from event_hooks.exceptions import EventNotTaken
from event_hooks.ledger import follow_ups
from event_hooks.reports.outbox import owed
from event_hooks.reports.story import Story

if TYPE_CHECKING:
    from event_hooks.ledger.ledger import Ledger
    from event_hooks.ledger.records import OwedEvent, OwedReport

log = logging.getLogger(__name__)

AT_ONCE = 100
"""Events of one request."""


def hand_on(ledger: Ledger, hook: EventServerHook | None = None) -> int:
    """
    Hand on the events that are owed.

    What the server refuses is noted, and reported as FATAL; the others go on.

    :return: how many it took.
    :raises EventServerUnreachable: what it has not taken is still owed.
    """
    hook, count = hook or EventServerHook(), 0
    while owed_now := follow_ups.owed_events(ledger):
        for start in range(0, len(owed_now), AT_ONCE):
            count += _hand_on(ledger, hook, owed_now[start : start + AT_ONCE])
    return count


def _hand_on(ledger: Ledger, hook: EventServerHook, some: Sequence[OwedEvent]) -> int:
    try:
        hook.submit([one.payload for one in some])
    except EventNotTaken as error:
        if len(some) > 1:
            return sum(_hand_on(ledger, hook, [one]) for one in some)
        log.error("An event that follows is refused: %s", error)  # noqa: TRY400 (the message says it all)
        _refuse(ledger, some[0], str(error))
        return 0
    follow_ups.note_sent(ledger, [one.id for one in some])
    return len(some)


def _refuse(ledger: Ledger, one: OwedEvent, error: str) -> None:
    entry = ledger.entry(one.event_id)
    told: list[OwedReport] = []
    if entry and entry.run_id:
        story = Story({"events": [entry.payload]}, entry.run_id, first=entry.position)
        report = story.not_handed_on(entry.position, one.process, one.payload, error)
        told = owed([report], entry.run_id, {entry.position: entry.id})
    follow_ups.note_refused(ledger, one, error, told)
