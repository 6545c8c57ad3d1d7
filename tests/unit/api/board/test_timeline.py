"""Bars, timelines, durations and ages of the event board."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from event_hooks.api.board import timeline
from event_hooks.api.board.timeline import BarSegment, Timeline
from event_hooks.ledger.views import EventView, ProcessView

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def after_noon(seconds: float) -> datetime:
    """Return a time after noon."""
    return NOON + timedelta(seconds=seconds)


def process_view(state: str = "submitted", **fields: Any) -> ProcessView:
    """Return a process with a job."""
    empty = dict.fromkeys(ProcessView.__dataclass_fields__)
    defaults = {"process": "dump_dna", "hive": "hive", "analysis": "dna", "job_id": 7, "state": state}
    return ProcessView(**{**empty, **defaults, **fields})


def lengths(segments: Iterable[BarSegment]) -> list[tuple[str, float]]:
    """Return kind and length of segments."""
    return [(segment.kind, round(segment.length)) for segment in segments]


@pytest.mark.parametrize(
    ("view", "segments", "label", "job_count"),
    [
        (process_view("planned", job_id=None), [("waiting", 100)], "not submitted yet", ""),
        (process_view(), [("waiting", 100)], "waiting", ""),
        (
            process_view(started_at=NOON, done=1, total=4, failed=1),
            [("done", 25), ("failed", 25), ("running", 50)],
            "running",
            "1 of 4 jobs",
        ),
        (process_view("complete", done=3, total=4, failed=0), [("done", 100)], "complete", "4 of 4 jobs"),
        (
            process_view("failed", done=2, total=4, failed=1),
            [("done", 50), ("failed", 25), ("waiting", 25)],
            "failed",
            "2 of 4 jobs",
        ),
        (process_view("not_submitted", job_id=None), [("failed", 100)], "not_submitted", ""),
        (process_view("failed", done=1, total=1, failed=0), [("failed", 100)], "failed", "1 of 1 job"),
    ],
)
def test_a_bar_shows_the_job_tree(
    view: ProcessView, segments: list[tuple[str, float]], label: str, job_count: str
) -> None:
    assert lengths(timeline.build_bar(view)) == segments
    assert (timeline.state_label(view), timeline.format_job_count(view)) == (label, job_count)


def build_timeline(view: ProcessView, reported: float | None = None, now: float = 100) -> Timeline:
    """Return the timeline of a process of an event that was received at noon."""
    event = EventView(1, "new_assembly", "homo_sapiens", "api", NOON, "run", True, (view,))
    reported_at = None if reported is None else after_noon(reported)
    return timeline.build_timeline(event, view, reported_at, after_noon(now))


def test_a_timeline_runs_from_received_to_reported() -> None:
    view = process_view(
        "complete", submitted_at=after_noon(10), started_at=after_noon(20), finished_at=after_noon(90)
    )
    built = build_timeline(view, 100)
    assert lengths(built.segments) == [("queued", 10), ("waiting", 10), ("done", 70), ("reporting", 10)]
    assert [(step.name, step.duration) for step in built.steps] == [
        ("received", ""),
        ("submitted", "+10 s"),
        ("first job running", "+10 s"),
        ("done", "+1 min 10 s"),
        ("reported", "+10 s"),
    ]


def test_a_step_without_a_time_is_missed_only_if_a_later_step_has_one() -> None:
    unfinished = build_timeline(process_view(submitted_at=after_noon(50)))
    assert lengths(unfinished.segments) == [("queued", 50), ("waiting", 50)]
    assert [step.reached_at for step in unfinished.steps[2:]] == [None] * 3
    assert not any(step.is_missed for step in unfinished.steps)
    quick = build_timeline(process_view("failed", submitted_at=after_noon(1), finished_at=after_noon(2)), 3)
    assert [step.name for step in quick.steps if step.is_missed] == ["first job running"]
    assert [step.name for step in quick.steps][3] == "failed"


def test_each_segment_has_a_minimum_length() -> None:
    view = process_view(submitted_at=after_noon(0.01), started_at=after_noon(0.02))
    built = build_timeline(view, now=86400)
    assert [segment.kind for segment in built.segments] == ["queued", "waiting", "running"]
    assert min(segment.length for segment in built.segments) > 2
    assert sum(segment.length for segment in built.segments) == pytest.approx(100, abs=0.1)
    assert lengths(build_timeline(process_view(), now=0).segments) == [("queued", 100)]


@pytest.mark.parametrize(
    ("seconds", "duration", "age"),
    [
        (-1, "0.0 s", "0 s"),
        (0.44, "0.4 s", "0 s"),
        (12, "12 s", "12 s"),
        (185, "3 min 5 s", "3 min"),
        (7800, "2 h 10 min", "2 h"),
        (349_200, "4 d 1 h", "4 d"),
    ],
)
def test_durations_have_two_units_and_ages_one(seconds: float, duration: str, age: str) -> None:
    assert timeline.format_duration(timedelta(seconds=seconds)) == duration
    assert timeline.format_age(NOON, after_noon(seconds)) == age
