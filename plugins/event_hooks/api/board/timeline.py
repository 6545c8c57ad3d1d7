"""What is drawn: lengths of bars, places on a timeline, and how long something took."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from event_hooks.ledger.records import BAD, GOOD, State

if TYPE_CHECKING:
    from event_hooks.ledger.overview import EventView, ProcessView

LEAST = 0.03
"""Share of a lane that a step has at least, however short it was."""

UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class Piece:
    """A part of a bar or a lane, in percent of its length."""

    kind: str
    """A class of the style sheet: done, running, failed, waiting, queued or reporting."""

    start: float
    length: float


@dataclass(frozen=True)
class Mark:
    """A moment on a lane."""

    step: str
    at: datetime | None
    """None if it has not come."""

    after: str = ""
    """How long after the moment before it."""

    is_missed: bool = False
    """Whether it has not come, and a later one has: a quick job runs between two looks at it."""


@dataclass(frozen=True)
class Lane:
    """The way of an event through one process."""

    process: str
    pieces: tuple[Piece, ...]
    marks: tuple[Mark, ...]


def bar(view: ProcessView) -> list[Piece]:
    """Give how a process's job tree stands: done, failed, at work, and what has not begun."""
    total = max(view.total or 1, 1)
    if view.state in GOOD:
        return [Piece("done" if view.state == State.COMPLETE else "waiting", 0, 100)]
    failed = max(view.failed or 0, 1) if view.is_finished else (view.failed or 0)
    done = min(view.done or 0, max(total - failed, 0))
    left = max(total - done - failed, 0)
    kind = "running" if view.started_at and not view.is_finished else "waiting"
    return list(_in_a_row([("done", done), ("failed", failed), (kind, left)]))


def count(view: ProcessView) -> str:
    """Give how many jobs of the tree are done, in words."""
    if view.total is None:
        return ""
    done = view.total if view.state == State.COMPLETE else view.done or 0
    return f"{done} of {view.total} job{'' if view.total == 1 else 's'}"


def word(view: ProcessView) -> str:
    """Give a process's state as people read it."""
    if view.is_finished:
        return view.state
    if view.job_id is None:
        return "not in the hive yet"
    return "running" if view.started_at else "waiting"


def lane(event: EventView, view: ProcessView, reported_at: datetime | None, now: datetime) -> Lane:
    """
    Draw a process's timeline.

    :param reported_at: when its end was told.
    """
    end = "failed" if view.state in BAD else str(view.state) if view.state == State.SKIPPED else "done"
    moments = [
        ("received", event.received_at),
        ("submitted", view.submitted_at),
        ("first job running", view.started_at),
        (end, view.finished_at),
        ("reported", reported_at if view.is_finished else None),
    ]
    return Lane(view.process, tuple(_stretches(moments, now)), tuple(_marks(moments)))


def _marks(moments: Sequence[tuple[str, datetime | None]]) -> Iterable[Mark]:
    before: datetime | None = None
    for number, (step, at) in enumerate(moments):
        is_missed = at is None and any(later for _, later in moments[number:])
        yield Mark(step, at, f"+{lasting(at - before)}" if at and before else "", is_missed)
        before = at or before


def _stretches(moments: Sequence[tuple[str, datetime | None]], now: datetime) -> Iterable[Piece]:
    """Give a piece from each moment that has come to the next; none is too short to be seen."""
    come = [(step, at) for step, at in moments if at]
    ended = {step for step, _ in come} & {"done", "failed", "skipped"}
    parts = [
        (_kind(step, ended), (after - at).total_seconds())
        for (step, at), (_, after) in pairwise([*come, ("now", now)])
        if step != "reported"
    ]
    least = LEAST * sum(seconds for _, seconds in parts)
    return _in_a_row([(kind, max(seconds, least) or 1.0) for kind, seconds in parts])


def _kind(step: str, ended: Collection[str]) -> str:
    """Give the kind of what followed a moment; the work itself has the colour of its end."""
    match step:
        case "received":
            return "queued"
        case "submitted":
            return "waiting"
        case "first job running":
            return next(iter(ended), "running")
    return "reporting"


def _in_a_row(parts: Sequence[tuple[str, float]]) -> Iterable[Piece]:
    whole, start = sum(length for _, length in parts) or 1, 0.0
    for kind, length in parts:
        if length:
            share = 100 * length / whole
            yield Piece(kind, round(start, 2), round(share, 2))
            start += share


def lasting(time: timedelta) -> str:
    """Give how long something took: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min, 4 d 1 h."""
    seconds = max(time.total_seconds(), 0)
    if seconds < 10:
        return f"{seconds:.1f} s"
    left, words = round(seconds), []
    for size, name in UNITS:
        if left >= size:
            words.append(f"{left // size} {name}")
            left %= size
    return " ".join(words[:2])


def age(at: datetime, now: datetime) -> str:
    """Give how long ago something was, in its largest unit."""
    seconds = max((now - at).total_seconds(), 0)
    size, name = next((unit for unit in UNITS if seconds >= unit[0]), UNITS[-1])
    return f"{seconds // size:.0f} {name}"
