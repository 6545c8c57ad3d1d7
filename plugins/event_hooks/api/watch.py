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

if TYPE_CHECKING:
    from event_hooks.exceptions import KeyTaken
    from event_hooks.ledger.ledger import Ledger
    from event_hooks.ledger.records import Arrival, Entry

log = logging.getLogger(__name__)

Start = Callable[[str, "Ledger", str], None]
"""Starts a run, given its id, the ledger and the names of those who asked."""

PREFIX = "api__"
"""Begins the ids of these runs."""

WINDOW = 0.5
"""Seconds after a run's first event in which more may join it."""

LONGEST_WINDOW = 4.0
"""
The same while events keep coming: each window is twice the last. Their jobs are in the hives meanwhile, and
each run costs Airflow seconds of work, so that two runs a second for minutes would be more than it can do.
"""

FULL = 500
"""Events from which on no more join a run."""

NOTE_LENGTH = 1000
"""Characters of a run's note. Source: Airflow's column has no less."""


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
        return cls(f"{PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S}_{uuid4().hex[:12]}", window)


class Watch:
    """
    Writes what comes in into the ledger under the id of a run, and starts that run a moment later.

    A run that this process cannot start any more is started by ``tend_ledger``.

    :param ledger: gives the ledger.
    """

    def __init__(self, ledger: Callable[[], Ledger], start: Start) -> None:
        self._ledger = ledger
        self._start = start
        self._open = Run.new()
        self._last = (-math.inf, WINDOW)  # when the last run ended, and its window
        self._lock = threading.Lock()  # of the open run: its timer goes off in a thread of its own
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="start runs")

    def take(self, asked: Sequence[tuple[Arrival, str]]) -> list[list[Entry] | BaseException]:
        """Write down (arrival, user) pairs: their entries, or why nothing of one was written."""
        answers: list[list[Entry] | KeyTaken] = []
        with self._lock:
            while len(answers) < len(asked):
                if self._open.count and time.monotonic() - self._open.began > self._open.window:
                    self._end(self._open)  # its timer waits for us, and tend_ledger does not wait for ever
                answers += self._take(self._fitting(asked[len(answers) :]))
                if self._open.count >= _full():
                    self._end(self._open)
        return list(answers)

    def close(self) -> None:
        """Start what is left, and wait for it."""
        self._end_in_time(self._open)
        self._starter.shutdown(wait=True)

    def _fitting(self, asked: Sequence[tuple[Arrival, str]]) -> Sequence[tuple[Arrival, str]]:
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

    def _take(self, asked: Sequence[tuple[Arrival, str]]) -> list[list[Entry] | KeyTaken]:
        if not self._open.count:
            ended, window = self._last
            goes_on = time.monotonic() - ended < WINDOW
            # Made now, for its id tells when its first event came
            self._open = Run.new(min(2 * window, LONGEST_WINDOW) if goes_on else WINDOW)
        run = self._open
        try:
            answers, new = self._ledger().take([arrival for arrival, _ in asked], run.run_id, run.count)
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
            log.exception("Run %s could not be started now: tend_ledger does it", run.run_id)


def _full() -> int:
    return min(FULL, settings.max_events())


def start_run(run_id: str, ledger: Ledger, user: str) -> None:
    """Start a run of process_event for the events that the ledger has under its id; harmless to repeat."""
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.exceptions import DagRunAlreadyExists
    from airflow.utils.types import DagRunTriggeredByType

    events = [entry.payload for entry in ledger.events_of(run_id)]
    if not events:
        return
    try:
        trigger_dag(
            settings.DAG_ID,
            run_id=run_id,
            conf={"events": events},
            triggered_by=DagRunTriggeredByType.REST_API,
            triggering_user_name=user or None,
            note=note_of(events),
        )
    except DagRunAlreadyExists:
        log.info("Run %s was started before", run_id)


def note_of(events: Sequence[dict[str, object]]) -> str | None:
    """Give the comments of events as the note of their run; None if there are none."""
    comments = [str(event["comment"]) for event in events if event.get("comment")]
    return "\n".join(dict.fromkeys(comments))[:NOTE_LENGTH] or None
