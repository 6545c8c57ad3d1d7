"""Hand on the events that follow from others to an event server."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from event_hooks.exceptions import EventRejected
from event_hooks.follow_ups.hook import EventServerHook
from event_hooks.ledger import follow_ups
from event_hooks.ledger.events import load_event
from event_hooks.reports.builder import ReportBuilder
from event_hooks.reports.outbox import to_pending

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.records import FollowUpEvent, PendingReport

log = logging.getLogger(__name__)

AT_ONCE = 100
"""Events of one request."""


def send_follow_ups(ledger: Ledger, hook: EventServerHook | None = None) -> int:
    """
    Hand on the events that are owed.

    What the server refuses is noted, and reported as FATAL; the others go on.

    :return: how many it took.
    :raises EventServerUnreachable: what it has not taken is still owed.
    """
    hook, count = hook or EventServerHook(), 0
    while owed_now := follow_ups.load_pending_follow_ups(ledger):
        for start in range(0, len(owed_now), AT_ONCE):
            count += _hand_on(ledger, hook, owed_now[start : start + AT_ONCE])
    return count


def _hand_on(ledger: Ledger, hook: EventServerHook, some: Sequence[FollowUpEvent]) -> int:
    try:
        hook.submit([one.payload for one in some])
    except EventRejected as error:
        if len(some) > 1:
            return sum(_hand_on(ledger, hook, [one]) for one in some)
        log.error("An event that follows is refused: %s", error)  # noqa: TRY400 (the message says it all)
        _refuse(ledger, some[0], str(error))
        return 0
    follow_ups.mark_sent(ledger, [one.id for one in some])
    return len(some)


def _refuse(ledger: Ledger, one: FollowUpEvent, error: str) -> None:
    entry = load_event(ledger, one.event_id)
    told: list[PendingReport] = []
    if entry and entry.run_id:
        story = ReportBuilder({"events": [entry.payload]}, entry.run_id, first=entry.position)
        report = story.follow_up_rejected(entry.position, one.process, one.payload, error)
        told = to_pending([report], entry.run_id, {entry.position: entry.id})
    follow_ups.mark_rejected(ledger, one, error, told)
