"""Bars and timelines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from event_hooks.api.board import timeline
from event_hooks.ledger.overview import EventView, ProcessView

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Give a moment after noon."""
    return NOON + timedelta(seconds=seconds)


def process(state: str = "submitted", **more: Any) -> ProcessView:
    """Give a process with a job."""
    nothing = dict.fromkeys(ProcessView.__dataclass_fields__)
    known = {"process": "dump_dna", "hive": "hive", "analysis": "dna", "job_id": 7, "state": state}
    return ProcessView(**{**nothing, **known, **more})


def kinds(pieces: Any) -> list[tuple[str, float]]:
    """Give kind and length of pieces."""
    return [(piece.kind, round(piece.length)) for piece in pieces]


@pytest.mark.parametrize(
    ("view", "pieces", "word", "count"),
    [
        (process("planned", job_id=None), [("waiting", 100)], "not in the hive yet", ""),
        (process(), [("waiting", 100)], "waiting", ""),
        (
            process(started_at=NOON, done=1, total=4, failed=1),
            [("done", 25), ("failed", 25), ("running", 50)],
            "running",
            "1 of 4 jobs",
        ),
        (process("complete", done=3, total=4, failed=0), [("done", 100)], "complete", "4 of 4 jobs"),
        (
            process("failed", done=2, total=4, failed=1),
            [("done", 50), ("failed", 25), ("waiting", 25)],
            "failed",
            "2 of 4 jobs",
        ),
        (process("not_submitted", job_id=None), [("failed", 100)], "not_submitted", ""),
        (process("failed", done=1, total=1, failed=0), [("failed", 100)], "failed", "1 of 1 job"),
    ],
)
def test_a_bar_shows_the_job_tree(
    view: ProcessView, pieces: list[tuple[str, float]], word: str, count: str
) -> None:
    assert kinds(timeline.bar(view)) == pieces
    assert (timeline.word(view), timeline.count(view)) == (word, count)


def lane(view: ProcessView, reported: float | None = None, now: float = 100) -> timeline.Lane:
    """Draw the lane of an event that was received at noon."""
    event = EventView(1, "new_assembly", "homo_sapiens", "api", NOON, "run", True, (view,))
    return timeline.lane(event, view, None if reported is None else at(reported), at(now))


def test_a_timeline_goes_from_received_to_reported() -> None:
    view = process("complete", submitted_at=at(10), started_at=at(20), finished_at=at(90))
    drawn = lane(view, 100)
    assert kinds(drawn.pieces) == [("queued", 10), ("waiting", 10), ("done", 70), ("reporting", 10)]
    assert [(mark.step, mark.after) for mark in drawn.marks] == [
        ("received", ""),
        ("submitted", "+10 s"),
        ("first job running", "+10 s"),
        ("done", "+1 min 10 s"),
        ("reported", "+10 s"),
    ]


def test_what_has_not_come_is_open_and_what_was_too_quick_is_missed() -> None:
    drawn = lane(process(submitted_at=at(50)))
    assert kinds(drawn.pieces) == [("queued", 50), ("waiting", 50)]
    assert [mark.at for mark in drawn.marks[2:]] == [None] * 3
    assert not any(mark.is_missed for mark in drawn.marks)
    quick = lane(process("failed", submitted_at=at(1), finished_at=at(2)), 3)
    assert [mark.step for mark in quick.marks if mark.is_missed] == ["first job running"]
    assert [mark.step for mark in quick.marks][3] == "failed"


def test_no_step_is_too_short_to_be_seen() -> None:
    drawn = lane(process(submitted_at=at(0.01), started_at=at(0.02)), now=86400)
    assert [kind for kind, _ in kinds(drawn.pieces)] == ["queued", "waiting", "running"]
    assert min(piece.length for piece in drawn.pieces) > 2
    assert sum(piece.length for piece in drawn.pieces) == pytest.approx(100, abs=0.1)
    assert kinds(lane(process(), now=0).pieces) == [("queued", 100)]


@pytest.mark.parametrize(
    ("seconds", "words", "age"),
    [
        (-1, "0.0 s", "0 s"),
        (0.44, "0.4 s", "0 s"),
        (12, "12 s", "12 s"),
        (185, "3 min 5 s", "3 min"),
        (7800, "2 h 10 min", "2 h"),
        (349_200, "4 d 1 h", "4 d"),
    ],
)
def test_times_are_told_in_two_units_and_ages_in_one(seconds: float, words: str, age: str) -> None:
    assert timeline.lasting(timedelta(seconds=seconds)) == words
    assert timeline.age(NOON, at(seconds)) == age
