"""Compute the bars and timelines of processes, and format job counts, durations and ages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from event_hooks.ledger.records import FAILURE_STATES, SUCCESS_STATES, ProcessState

if TYPE_CHECKING:
    from event_hooks.ledger.views import EventView, ProcessView

MIN_SHARE = 0.03
"""Minimum share of a timeline that a segment takes, so that a short step stays visible."""

UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))

Moments = Sequence[tuple[str, datetime | None]]
"""(step, time that it was reached) in the order of the steps; ``None`` for a step that is not reached."""


@dataclass(frozen=True)
class BarSegment:
    """A segment of a bar, in percent of the bar's length."""

    kind: str
    """A class of the style sheet: done, running, failed, waiting, queued or reporting."""

    start: float
    length: float


@dataclass(frozen=True)
class TimelineStep:
    """A step of a timeline."""

    name: str
    reached_at: datetime | None
    """``None`` if it is not reached."""

    duration: str = ""
    """Time since the previous step that was reached."""

    is_missed: bool = False
    """Whether a later step is reached and this one was not observed: a quick job runs between two polls."""


@dataclass(frozen=True)
class Timeline:
    """The steps of an event in one process, and the bar that shows their durations."""

    process: str
    segments: tuple[BarSegment, ...]
    steps: tuple[TimelineStep, ...]


def build_bar(view: ProcessView) -> list[BarSegment]:
    """Return the bar of a process's job tree: the shares of done, failed, and running or waiting jobs."""
    total = max(view.total or 1, 1)
    if view.state in SUCCESS_STATES:
        return [BarSegment("done" if view.state == ProcessState.COMPLETE else "waiting", 0, 100)]
    failed = max(view.failed or 0, 1) if view.is_finished else (view.failed or 0)
    done = min(view.done or 0, max(total - failed, 0))
    unfinished = max(total - done - failed, 0)
    kind = "running" if view.started_at and not view.is_finished else "waiting"
    return list(_build_segments([("done", done), ("failed", failed), (kind, unfinished)]))


def format_job_count(view: ProcessView) -> str:
    """Return how many jobs of the tree are done, such as ``3 of 4 jobs``; empty before the first poll."""
    if view.total is None:
        return ""
    done = view.total if view.state == ProcessState.COMPLETE else view.done or 0
    return f"{done} of {view.total} job{'' if view.total == 1 else 's'}"


def state_label(view: ProcessView) -> str:
    """Return the text of a process's state."""
    if view.is_finished:
        return view.state
    if view.job_id is None:
        return "not submitted yet"
    return "running" if view.started_at else "waiting"


def build_timeline(
    event: EventView, view: ProcessView, reported_at: datetime | None, now: datetime
) -> Timeline:
    """
    Return the timeline of a process.

    :param reported_at: time that the report of its end was sent.
    """
    end = "done"
    if view.state in FAILURE_STATES:
        end = "failed"
    elif view.state == ProcessState.SKIPPED:
        end = str(view.state)
    moments = [
        ("received", event.received_at),
        ("submitted", view.submitted_at),
        ("first job running", view.started_at),
        (end, view.finished_at),
        ("reported", reported_at if view.is_finished else None),
    ]
    return Timeline(view.process, tuple(_timeline_segments(moments, now)), tuple(_timeline_steps(moments)))


def _timeline_steps(moments: Moments) -> Iterable[TimelineStep]:
    previous: datetime | None = None
    for index, (name, reached_at) in enumerate(moments):
        is_missed = reached_at is None and any(later for _, later in moments[index:])
        duration = f"+{format_duration(reached_at - previous)}" if reached_at and previous else ""
        yield TimelineStep(name, reached_at, duration, is_missed)
        previous = reached_at or previous


def _timeline_segments(moments: Moments, now: datetime) -> Iterable[BarSegment]:
    """Return a segment from each reached step to the next one; each has a minimum length."""
    reached = [(name, reached_at) for name, reached_at in moments if reached_at]
    ends = {name for name, _ in reached} & {"done", "failed", "skipped"}
    parts = [
        (_segment_kind(name, ends), (end - start).total_seconds())
        for (name, start), (_, end) in pairwise([*reached, ("now", now)])
        if name != "reported"
    ]
    min_seconds = MIN_SHARE * sum(seconds for _, seconds in parts)
    return _build_segments([(kind, max(seconds, min_seconds) or 1.0) for kind, seconds in parts])


def _segment_kind(step: str, ends: Collection[str]) -> str:
    """Return the kind of the segment after a step; the jobs' segment has the colour of their outcome."""
    match step:
        case "received":
            return "queued"
        case "submitted":
            return "waiting"
        case "first job running":
            return next(iter(ends), "running")
    return "reporting"


def _build_segments(parts: Sequence[tuple[str, float]]) -> Iterable[BarSegment]:
    total, start = sum(length for _, length in parts) or 1, 0.0
    for kind, length in parts:
        if length:
            percent = 100 * length / total
            yield BarSegment(kind, round(start, 2), round(percent, 2))
            start += percent


def format_duration(duration: timedelta) -> str:
    """Return a duration in its two largest units: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min, 4 d 1 h."""
    seconds = max(duration.total_seconds(), 0)
    if seconds < 10:
        return f"{seconds:.1f} s"
    remainder, parts = round(seconds), []
    for size, unit in UNITS:
        if remainder >= size:
            parts.append(f"{remainder // size} {unit}")
            remainder %= size
    return " ".join(parts[:2])


def format_age(moment: datetime, now: datetime) -> str:
    """Return the time since a moment in its largest unit."""
    seconds = max((now - moment).total_seconds(), 0)
    size, unit = next((unit for unit in UNITS if seconds >= unit[0]), UNITS[-1])
    return f"{seconds // size:.0f} {unit}"
