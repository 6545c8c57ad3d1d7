"""What a report says of each step, and when two reports are the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from event_hooks.ledger.records import Progress
from event_hooks.reports.builder import ReportBuilder, invalid_event
from event_hooks.reports.report import Report, is_at_least

EVENT = {"type": "new_assembly", "genome": "homo_sapiens", "event_id": "1", "note": {"é": 1}}


@pytest.fixture
def story() -> ReportBuilder:
    return ReportBuilder({"events": [EVENT, {"type": "release"}]}, "run")


def outcome(state: str = "complete", **more: Any) -> dict[str, Any]:
    return {"job_id": 7, "state": state, "result": None, "error": None} | more


def facts(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(report.message.partition(": ")[2])
    return found


def test_every_report_has_the_event_and_one_key_of_ours(story: ReportBuilder) -> None:
    report = story.submitted(0, "dump_dna", 7)
    about = {"run_id": "run", "correlation_id": "run/0", "step": "submitted", "processes": ["dump_dna"]}
    assert report.params == {**EVENT, "event_hooks": about}
    assert (report.resource, report.routing_key) == ("homo_sapiens", "report.info")
    assert report.message == (
        'Event submitted: {"process": "dump_dna", "run": "run", "genome": "homo_sapiens", "id": 7}'
    )


def test_success_is_info_with_the_result(story: ReportBuilder) -> None:
    report = story.process_finished(0, "dump_dna", outcome(result={"files": 3}), "try1")
    assert report.routing_key == "report.info"
    assert (facts(report)["status"], facts(report)["output"]) == ("complete", {"files": 3})


def test_success_with_a_doubt_is_a_warning(story: ReportBuilder) -> None:
    report = story.process_finished(0, "dump_dna", outcome(warning="a job was not stored"), "try1")
    assert (report.routing_key, facts(report)["warning"]) == ("report.warn", "a job was not stored")


def test_failure_is_fatal_with_the_hives_message_and_what_to_do(story: ReportBuilder) -> None:
    report = story.process_finished(0, "dump_dna", outcome("failed", error="disk full"), "try1")
    assert (report.routing_key, report.report_type, report.level) == ("report.fatal", "FATAL", "FATAL")
    assert facts(report) == {
        "process": "dump_dna",
        "run": "run",
        "genome": "homo_sapiens",
        "id": 7,
        "status": "failed",
        "error": "disk full",
        "to_do": "mend the cause, then clear dump_dna.wait of the run with Downstream",
    }


def test_a_success_is_told_once_and_a_failure_once_for_each_attempt(story: ReportBuilder) -> None:
    good, bad = outcome(result=1), outcome("failed", error="disk full")
    told = lambda how, attempt: story.process_finished(0, "dump_dna", how, attempt).message_id  # noqa: E731
    assert told(good, "1") == told(good, "2")
    assert told(bad, "1") == told({**bad, "error": "read at another moment"}, "1")
    assert told(bad, "1") != told(bad, "2")


def test_no_two_steps_are_the_same_report(story: ReportBuilder) -> None:
    progress = Progress(0, 1, 10, 0)
    reports = [
        *(story.received(at, ["dump_dna"]) for at in (0, 1)),
        *(story.submitted(0, process, 7) for process in ("dump_dna", "dump_rna")),
        *(story.progress([0], "dump_dna", 7, how) for how in (progress, Progress(0, 2, 10, 0))),
        *(story.stalled([0, 1], "dump_dna", 7, "not_picked_up", "no_beekeeper", key) for key in "ab"),
        story.process_finished(0, "dump_dna", outcome(), "1"),
        story.process_finished(0, "dump_dna", outcome("failed"), "1"),
        story.duplicate(0, "first"),
        story.rejected(0, "no"),
        story.no_process(0),
    ]
    assert len({report.message_id for report in reports}) == len(reports) == 13
    assert len({ReportBuilder({"events": [EVENT]}, run).no_process(0).message_id for run in "ab"}) == 2


def test_progress_of_a_batch_says_of_how_many_events(story: ReportBuilder) -> None:
    report = story.progress([0, 1], "dump_dna", 7, Progress(0, 5, 20, 1, "writing"))
    assert {**facts(report), "run": 0} == {
        "process": "dump_dna",
        "run": 0,
        "genome": "homo_sapiens",
        "id": 7,
        "status": "running",
        "done": 5,
        "total": 20,
        "failed": 1,
        "message": "writing",
        "events": 2,
    }


def test_an_event_that_is_known_is_ignored_with_the_run_that_has_it(story: ReportBuilder) -> None:
    report = story.duplicate(0, "first_run")
    assert (report.routing_key, facts(report)["first_run"]) == ("report.debug", "first_run")
    assert not is_at_least(report.report_type, "INFO")
    assert is_at_least(report.report_type, "DEBUG")


def test_an_event_that_cannot_be_read_is_fatal() -> None:
    report = invalid_event({"genome": "homo_sapiens"}, "run", ValueError("type: expected a string"))
    assert (report.routing_key, report.resource) == ("report.fatal", "homo_sapiens")
    assert report.message == "Event rejected: type: expected a string"


@pytest.mark.parametrize(
    "value",
    [pytest.param("\ud83d", id="surrogate"), pytest.param(json.loads("[" * 500 + "]" * 500), id="deep")],
)
def test_an_event_that_was_refused_is_reported_whatever_it_holds(value: Any) -> None:
    conf = {"type": "x", "genome": value if isinstance(value, str) else "g", "deep": value}
    report = ReportBuilder(conf, "run").rejected(0, "deep: expected something else")
    assert list(json.loads(report.body)["params"]) == ["event_hooks"]
    assert "deep: expected something else" in report.message
