"""Reports that are too large for the broker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from event_hooks.events.models import Event
from event_hooks.ledger.records import RunEvents
from event_hooks.reports.builder import ReportBuilder, build_invalid_event_report
from event_hooks.reports.report import Report, parse_message
from event_hooks.reports.shortening import shorten_body

LIMIT = 64 * 1024


def build_report(output: Any = None, **fields: Any) -> Report:
    """Return the report of a success."""
    event = Event.model_validate({"type": "new_assembly", "genome": "homo_sapiens", **fields})
    outcome = {"job_id": 7, "state": "complete", "result": output, "error": None}
    return ReportBuilder(RunEvents("run", {0: event}, {0: 1})).process_finished(0, "dump", outcome, "")


def shorten(report: Report) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the event's fields and the facts of a shortened report, which has at most LIMIT bytes."""
    body = shorten_body(report.body, LIMIT)
    assert len(body.encode()) <= LIMIT
    shortened = json.loads(body)
    title, facts = parse_message(shortened["message"])
    assert (title, isinstance(facts, dict)) == ("Event succeeded", True)
    assert shortened.keys() == json.loads(report.body).keys()
    assert '"step":"process_finished"' in body  # find_reported_events searches for this form
    return shortened["params"], dict(facts)


@pytest.mark.parametrize("text", ["x" * (LIMIT - 1000), "é" * 20_000], ids=["ascii", "two bytes each"])
def test_a_report_below_the_limit_stays_as_it_is(text: str) -> None:
    body = build_report(text).body
    assert shorten_body(body, LIMIT) == body


@pytest.mark.parametrize(
    "output",
    ["x" * LIMIT, "é" * LIMIT, '"' * LIMIT, "\0" * LIMIT, list(range(LIMIT)), {"a": {"b": "x" * LIMIT}}],
    ids=["ascii", "two bytes each", "quotes", "NUL", "list", "object"],
)
def test_a_long_output_is_shortened_and_named(output: Any) -> None:
    params, facts = shorten(build_report(output, comment="a comment"))
    assert (facts["shortened"], facts["id"], facts["process"]) == (["output"], 7, "dump")
    assert facts["output"].endswith("characters)")
    assert (params["type"], params["comment"]) == ("new_assembly", "a comment")
    assert params["event_hooks"]["step"] == "process_finished"


def test_long_fields_of_the_event_are_shortened_and_named() -> None:
    params, facts = shorten(build_report("fine", first="x" * LIMIT, second=["y" * LIMIT], third="z"))
    assert facts["shortened"] == ["params.first", "params.second"]
    assert (facts["output"], params["third"], params["first"][:3]) == ("fine", "z", "xxx")


def test_too_many_fields_are_removed() -> None:
    params, facts = shorten(
        build_report("fine", **{f"field_{number}": number for number in range(LIMIT // 8)})
    )
    assert facts["shortened"] == ["params"]
    assert params.keys() == {"type", "genome", "event_hooks"}


def test_a_message_without_facts_is_shortened() -> None:
    report = build_invalid_event_report({"type": "t"}, "run", ValueError("x" * 2 * LIMIT))
    body = shorten_body(report.body, LIMIT)
    assert len(body) <= LIMIT
    assert json.loads(body)["message"].startswith("Event rejected: xxx")
