"""Runs for what came in: one for all events of half a second, or of a burst, and at most 500 of them."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from event_hooks import settings
from event_hooks.ledger.events import accept_requests
from event_hooks.process_event.runs import API_PREFIX

if TYPE_CHECKING:
    from event_hooks.exceptions import EventKeyConflict
    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.records import EventRequest, StoredEvent

log = logging.getLogger(__name__)

Start = Callable[[str, "Ledger", str], None]
"""Starts a run, given its id, the ledger and the names of those who asked."""

WINDOW = 0.5
"""Seconds after a run's first event in which more may join it."""

LONGEST_WINDOW = 4.0
"""
The same while events keep coming: each window is twice the last. Their jobs are in the hives meanwhile, and
each run costs Airflow seconds of work, so that two runs a second for minutes would be more than it can do.
"""

FULL = 500
"""Events from which on no more join a run."""


@dataclass
class Run:
    """A run that is not started yet."""

    run_id: str
    window: float = WINDOW
    began: float = field(default_factory=time.monotonic)
    count: int = 0
    users: dict[str, None] = field(default_factory=dict)

    @classmethod
    def new(cls, window: float = WINDOW) -> Run:
        """Make one with an id that no other process of us makes."""
        return cls(f"{API_PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S}_{uuid4().hex[:12]}", window)


class RunStarter:
    """
    Writes what comes in into the ledger under the id of a run, and starts that run a moment later.

    A run that this process cannot start any more is started by ``maintain_ledger``.

    :param ledger: gives the ledger.
    """

    def __init__(self, ledger: Callable[[], Ledger], start: Start) -> None:
        self._ledger = ledger
        self._start = start
        self._open = Run.new()
        self._last = (-math.inf, WINDOW)  # when the last run ended, and its window
        self._lock = threading.Lock()  # of the open run: its timer goes off in a thread of its own
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="start runs")

    def take(self, asked: Sequence[tuple[EventRequest, str]]) -> list[list[StoredEvent] | BaseException]:
        """Write down (arrival, user) pairs: their entries, or why nothing of one was written."""
        answers: list[list[StoredEvent] | EventKeyConflict] = []
        with self._lock:
            while len(answers) < len(asked):
                if self._open.count and time.monotonic() - self._open.began > self._open.window:
                    self._end(
                        self._open
                    )  # its timer waits for us, and maintain_ledger does not wait for ever
                answers += self._take(self._fitting(asked[len(answers) :]))
                if self._open.count >= _full():
                    self._end(self._open)
        return list(answers)

    def close(self) -> None:
        """Start what is left, and wait for it."""
        self._end_in_time(self._open)
        self._starter.shutdown(wait=True)

    def _fitting(self, asked: Sequence[tuple[EventRequest, str]]) -> Sequence[tuple[EventRequest, str]]:
        """Give as many as the open run has room for; a large batch gets a run of its own."""
        room = _full() - self._open.count
        for number, (arrival, _) in enumerate(asked):
            room -= len(arrival.events)
            if room < 0:
                if number == 0 and self._open.count:
                    self._end(self._open)
                    return self._fitting(asked)
                return asked[: max(number, 1)]
        return asked

    def _take(self, asked: Sequence[tuple[EventRequest, str]]) -> list[list[StoredEvent] | EventKeyConflict]:
        if not self._open.count:
            ended, window = self._last
            goes_on = time.monotonic() - ended < WINDOW
            # Made now, for its id tells when its first event came
            self._open = Run.new(min(2 * window, LONGEST_WINDOW) if goes_on else WINDOW)
        run = self._open
        try:
            answers, new = accept_requests(
                self._ledger(), [arrival for arrival, _ in asked], run.run_id, run.count
            )
        except BaseException:
            # Whether it is written is not known, so the run gets no more: two events must not have one place.
            self._end(run)
            raise
        if new and not run.count:
            timer = threading.Timer(run.window, self._end_in_time, [run])
            timer.daemon = True
            timer.start()
        run.count += new
        for (_, user), answer in zip(asked, answers, strict=True):
            if isinstance(answer, list) and any(entry.is_new for entry in answer):
                run.users[user] = None
        return answers

    def _end_in_time(self, run: Run) -> None:
        with self._lock:
            self._end(run)

    def _end(self, run: Run) -> None:
        """Let no more events into a run, and start it."""
        if run is self._open:
            self._last = (time.monotonic(), run.window)
            self._open = Run.new()
            self._starter.submit(self._start_logged, run)

    def _start_logged(self, run: Run) -> None:
        try:
            self._start(run.run_id, self._ledger(), ", ".join(run.users)[:200])
        except Exception:
            log.exception("Run %s could not be started now: maintain_ledger does it", run.run_id)


def _full() -> int:
    return min(FULL, settings.max_events())
