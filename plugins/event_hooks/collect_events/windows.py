"""The windows that a run reads: its own, and before it the gap since the high-water mark."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from event_hooks import settings
from event_hooks.ledger.marks import load_or_create_mark

if TYPE_CHECKING:
    from event_hooks.collect_events.params import CollectParams
    from event_hooks.ledger.database import Ledger

log = logging.getLogger(__name__)

MARK_NAME = "collect_events"
"""Name of the high-water mark: the end of the last window up to which the ledger has all events."""

GAP_WINDOW = timedelta(days=1)
"""Length of the windows in which a gap is read; the high-water mark moves after each of them."""


def list_windows(ledger: Ledger, params: CollectParams) -> list[CollectParams]:
    """
    Return the windows that a run reads, in their order: those of a gap, then its own.

    There is a gap if the high-water mark is before the run's own window: no scheduled run has read the events
    between them, or an earlier run has not finished. A later run therefore never moves the mark past events
    that an earlier run still has to hand over. Without a mark, the run's own window is the first one.
    """
    if not params.moves_mark:
        return [params]
    mark = load_or_create_mark(ledger, MARK_NAME, params.start)
    gap = [
        replace(params, start=start, end=end, is_gap=True) for start, end in _split_gap(mark, params.start)
    ]
    if gap:
        log.warning(
            "No scheduled run has finished the events from %s to %s: this run reads them, in %s windows",
            mark.isoformat(),
            params.start.isoformat(),
            len(gap),
        )
    return [*gap, params]


def overlap_start(start: datetime) -> datetime:
    """
    Return the time from which a window that begins at ``start`` reads events.

    An event becomes visible only when its transaction ends, so some appear after their window was read.
    """
    return start - timedelta(seconds=settings.collect_overlap())


def _split_gap(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    while start < end:
        window_end = min(start + GAP_WINDOW, end)
        yield start, window_end
        start = window_end
