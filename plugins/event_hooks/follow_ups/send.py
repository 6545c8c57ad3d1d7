"""Send follow-up events to an event server."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from more_itertools import constrained_batches

from event_hooks.exceptions import EventRejected
from event_hooks.follow_ups.hook import EventServerHook
from event_hooks.ledger import follow_ups
from event_hooks.ledger.events import load_event
from event_hooks.ledger.records import RunEvents
from event_hooks.masking import mask_text
from event_hooks.reports.builder import ReportBuilder
from event_hooks.reports.outbox import to_pending

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.records import FollowUpEvent, PendingReport

log = logging.getLogger(__name__)

MAX_EVENTS_PER_REQUEST = 100

MAX_BYTES_PER_REQUEST = 2**19
"""Bytes of a request with several events: half of the default ``max_body_bytes`` of the API."""


def send_follow_ups(ledger: Ledger, hook: EventServerHook | None = None) -> int:
    """
    Send the pending follow-up events.

    An event that the server rejects is recorded and reported as FATAL, and does not stop the other events.

    :return: number of events that the server has accepted.
    :raises EventServerUnreachable: the events that the server has not accepted are still pending.
    """
    hook, count = hook or EventServerHook(), 0
    while pending := follow_ups.load_pending_follow_ups(ledger, MAX_EVENTS_PER_REQUEST):
        for batch in constrained_batches(pending, MAX_BYTES_PER_REQUEST, get_len=_count_bytes, strict=False):
            count += _send_batch(ledger, hook, batch)
    return count


def _count_bytes(event: FollowUpEvent) -> int:
    return len(json.dumps(event.payload)) + len(", ")


def _send_batch(ledger: Ledger, hook: EventServerHook, events: Sequence[FollowUpEvent]) -> int:
    try:
        hook.submit([event.payload for event in events])
    except EventRejected as error:
        if len(events) > 1:
            return sum(_send_batch(ledger, hook, [event]) for event in events)
        reason = mask_text(str(error))
        # The message is complete; a traceback would not add to it.
        log.error("The event server has rejected a follow-up event: %s", reason)  # noqa: TRY400
        _record_rejection(ledger, events[0], reason)
        return 0
    follow_ups.mark_sent(ledger, [event.id for event in events])
    return len(events)


def _record_rejection(ledger: Ledger, event: FollowUpEvent, error: str) -> None:
    cause = load_event(ledger, event.event_id)
    reports: list[PendingReport] = []
    if cause and cause.run_id:
        builder = ReportBuilder(RunEvents.from_stored(cause.run_id, [cause]))
        report = builder.follow_up_rejected(cause.position, event.process, event.payload, error)
        reports = to_pending([report], cause.run_id)
    follow_ups.mark_rejected(ledger, event, error, reports)
