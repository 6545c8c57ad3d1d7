"""
Assign accepted events to runs, and start the runs.

A run takes all events of a quarter of a second, or of a longer window during a burst, but at most 500 of
them, and at most 8 MiB.
"""

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
from event_hooks.exceptions import LedgerRejected, RunClosed
from event_hooks.ledger.events import accept_requests
from event_hooks.ledger.records import MAX_RUN_BYTES
from event_hooks.process_event.runs import API_PREFIX

if TYPE_CHECKING:
    from event_hooks.exceptions import EventKeyConflict
    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.records import EventRequest, StoredEvent

log = logging.getLogger(__name__)

StartRun = Callable[[str, "Ledger", str], None]
"""Starts a run; the arguments are its id, the ledger, and the comma-separated names of the users."""

WINDOW_SECONDS = 0.25
"""Time after a run's first event in which further events join the run."""

BURST_SECONDS = 0.5
"""An event within this time after the previous run was closed is part of a burst."""

MAX_WINDOW_SECONDS = 4.0
"""
Longest window. During a burst each window is twice as long as the previous one, because a run costs Airflow
seconds of work, and two runs a second for minutes would overload it. The jobs of the events are in the hives
meanwhile.
"""

MAX_EVENTS_PER_RUN = 500
"""A run with this many events takes no further request; a larger request gets a run of its own."""


@dataclass
class OpenRun:
    """A run that still takes events, and is not started yet."""

    run_id: str
    window_seconds: float = WINDOW_SECONDS
    opened_at: float = field(default_factory=time.monotonic)
    event_count: int = 0
    byte_count: int = 0
    users: dict[str, None] = field(default_factory=dict)
    """An ordered set of the users that sent its events."""

    @classmethod
    def create(cls, window_seconds: float = WINDOW_SECONDS) -> OpenRun:
        """Return a run with a unique id, which begins with the time of its creation."""
        run_id = f"{API_PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S}_{uuid4().hex[:12]}"
        return cls(run_id, window_seconds)

    @property
    def is_expired(self) -> bool:
        """Whether its window has passed."""
        return self.event_count > 0 and time.monotonic() - self.opened_at > self.window_seconds


class RunStarter:
    """
    Store events in the ledger under the id of the open run, and start that run when its window has passed.

    If this process dies before it starts a run, ``maintain_ledger`` starts it.

    :param open_ledger: returns the ledger.
    """

    def __init__(self, open_ledger: Callable[[], Ledger], start_run: StartRun) -> None:
        self._open_ledger = open_ledger
        self._start_run = start_run
        self._open_run = OpenRun.create()
        self._last_closed_at, self._last_window_seconds = -math.inf, WINDOW_SECONDS
        self._lock = threading.Lock()  # guards the open run, which a timer closes in another thread
        self._start_thread = ThreadPoolExecutor(1, thread_name_prefix="start runs")

    def accept(self, requests: Sequence[tuple[EventRequest, str]]) -> list[list[StoredEvent] | BaseException]:
        """
        Store the events of requests in the ledger.

        :param requests: (request, user) pairs.
        :return: for each request its stored events, or its error. An error other than :class:`LedgerRejected`
            is also the error of the remaining requests, because the ledger would probably time out for each.
        """
        results: list[list[StoredEvent] | BaseException] = []
        with self._lock:
            while len(results) < len(requests):
                if self._open_run.is_expired:
                    # Its timer waits for the lock, and maintain_ledger starts a run that stays open for long.
                    self._close_run(self._open_run)
                fitting = self._select_fitting(requests[len(results) :])
                try:
                    results += self._store(fitting)
                except LedgerRejected as error:
                    results += [error] * len(fitting)
                except Exception as error:  # the previous requests are stored, and keep their results
                    results += [error] * (len(requests) - len(results))
                if self._open_run.event_count >= _max_events() or self._open_run.byte_count >= MAX_RUN_BYTES:
                    self._close_run(self._open_run)
        return results

    def close(self) -> None:
        """Start the open run, and wait for it."""
        self._close_run_locked(self._open_run)
        self._start_thread.shutdown(wait=True)

    def _select_fitting(
        self, requests: Sequence[tuple[EventRequest, str]]
    ) -> Sequence[tuple[EventRequest, str]]:
        """Return the first requests that fit into the open run; a large request gets a run of its own."""
        capacity = _max_events() - self._open_run.event_count
        byte_capacity = MAX_RUN_BYTES - self._open_run.byte_count
        for index, (request, _) in enumerate(requests):
            capacity -= len(request.events)
            byte_capacity -= request.byte_count
            if capacity < 0 or byte_capacity < 0:
                if index == 0 and self._open_run.event_count:
                    self._close_run(self._open_run)
                    return self._select_fitting(requests)
                return requests[: max(index, 1)]
        return requests

    def _store(
        self, requests: Sequence[tuple[EventRequest, str]]
    ) -> list[list[StoredEvent] | EventKeyConflict]:
        run = self._open_run if self._open_run.event_count else self._renew_open_run()
        try:
            return self._store_in_run(requests, run)
        except RunClosed:
            log.warning("Run %s was started before its window has passed; another run follows", run.run_id)
            return self._store_in_run(requests, self._renew_open_run())

    def _store_in_run(
        self, requests: Sequence[tuple[EventRequest, str]], run: OpenRun
    ) -> list[list[StoredEvent] | EventKeyConflict]:
        events = [request for request, _ in requests]
        try:
            results, new_count = accept_requests(self._open_ledger(), events, run.run_id, run.event_count)
        except BaseException:
            # The transaction may have been committed. The run gets no further events, because their positions
            # could be taken.
            self._close_run(run)
            raise
        if new_count and not run.event_count:
            self._start_timer(run)
        run.event_count += new_count
        for (request, user), result in zip(requests, results, strict=True):
            if isinstance(result, list) and any(event.is_new for event in result):
                run.users[user] = None
                run.byte_count += request.byte_count
        return results

    def _renew_open_run(self) -> OpenRun:
        """Replace an open run without events: the new id holds the time of its first event."""
        is_burst = time.monotonic() - self._last_closed_at < BURST_SECONDS
        window_seconds = (
            min(2 * self._last_window_seconds, MAX_WINDOW_SECONDS) if is_burst else WINDOW_SECONDS
        )
        self._open_run = OpenRun.create(window_seconds)
        return self._open_run

    def _start_timer(self, run: OpenRun) -> None:
        timer = threading.Timer(run.window_seconds, self._close_run_locked, [run])
        timer.daemon = True
        timer.start()

    def _close_run_locked(self, run: OpenRun) -> None:
        with self._lock:
            self._close_run(run)

    def _close_run(self, run: OpenRun) -> None:
        """Accept no further events for a run, and start it; do nothing if it is closed already."""
        if run is self._open_run:
            self._last_closed_at, self._last_window_seconds = time.monotonic(), run.window_seconds
            self._open_run = OpenRun.create()
            self._start_thread.submit(self._start, run)

    def _start(self, run: OpenRun) -> None:
        try:
            self._start_run(run.run_id, self._open_ledger(), ", ".join(run.users)[:200])
        except Exception:
            log.exception("Run %s could not be started; maintain_ledger retries", run.run_id)


def _max_events() -> int:
    return min(MAX_EVENTS_PER_RUN, settings.max_events())
