"""The reports on each step, and which reports have the same message id."""

from __future__ import annotations

import json
from typing import Any

import pytest

from event_hooks.ledger.records import ProcessStatus, ProgressUpdate
from event_hooks.reports.builder import ReportBuilder, build_invalid_event_report
from event_hooks.reports.report import Report, is_at_least
from tests.support.run_events import build_run

EVENT = {"type": "new_assembly", "genome": "homo_sapiens", "event_id": "1", "note": {"é": 1}}


@pytest.fixture
def builder() -> ReportBuilder:
    return ReportBuilder(build_run(EVENT, {"type": "release"}))


def outcome(state: str = "complete", **fields: Any) -> dict[str, Any]:
    return {"job_id": 7, "state": state, "result": None, "error": None} | fields


def facts(report: Report) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(report.message.partition(": ")[2])
    return parsed


def test_the_params_of_a_report_are_the_event_and_one_metadata_key(builder: ReportBuilder) -> None:
    report = builder.submitted(0, "dump_dna", 7)
    metadata = {"run_id": "run", "correlation_id": "run/0", "step": "submitted", "processes": ["dump_dna"]}
    assert report.params == {**EVENT, "event_hooks": metadata}
    assert (report.resource, report.routing_key) == ("homo_sapiens", "report.info")
    assert report.message == (
        'Event submitted: {"process": "dump_dna", "run": "run", "genome": "homo_sapiens", "id": 7}'
    )


def test_success_is_info_with_the_result(builder: ReportBuilder) -> None:
    report = builder.process_finished(0, "dump_dna", outcome(result={"files": 3}), "try1")
    assert report.routing_key == "report.info"
    assert (facts(report)["status"], facts(report)["output"]) == ("complete", {"files": 3})


def test_success_with_a_warning_is_a_warn_report(builder: ReportBuilder) -> None:
    report = builder.process_finished(0, "dump_dna", outcome(warning="a job was not stored"), "try1")
    assert (report.routing_key, facts(report)["warning"]) == ("report.warn", "a job was not stored")


def test_failure_is_fatal_with_the_hives_message_and_advice(builder: ReportBuilder) -> None:
    report = builder.process_finished(0, "dump_dna", outcome("failed", error="disk full"), "try1")
    assert (report.routing_key, report.report_type, report.level) == ("report.fatal", "FATAL", "FATAL")
    assert facts(report) == {
        "process": "dump_dna",
        "run": "run",
        "genome": "homo_sapiens",
        "id": 7,
        "status": "failed",
        "error": "disk full",
        "to_do": "fix the cause, then retry the process (on the event board, or with event-hooks retry), or"
        " clear dump_dna.wait of the run with Downstream",
    }


@pytest.mark.parametrize("failure", ["job failed", "job unknown", "no job"])
def test_the_advice_for_a_removed_process_names_no_task(builder: ReportBuilder, failure: str) -> None:
    reports = {
        "job failed": builder.process_finished(0, "dump_removed", outcome("failed", error="x"), "try1"),
        "job unknown": builder.outcome_unknown(0, "dump_removed", 7, "x", "try1", is_user_decision=False),
        "no job": builder.not_submitted(0, "dump_removed", "x", "1"),
    }
    to_do = facts(reports[failure])["to_do"]
    assert to_do.startswith("dump_removed was removed from the process lookup")
    assert "put it back into the lookup" in to_do
    assert "dump_removed." not in to_do


def test_a_success_is_reported_once_and_a_failure_once_for_each_attempt(builder: ReportBuilder) -> None:
    success, failure = outcome(result=1), outcome("failed", error="disk full")
    message_id = lambda outcome, attempt: builder.process_finished(0, "dump_dna", outcome, attempt).message_id  # noqa: E731
    assert message_id(success, "1") == message_id(success, "2")
    assert message_id(failure, "1") == message_id({**failure, "error": "read at another moment"}, "1")
    assert message_id(failure, "1") != message_id(failure, "2")


def test_each_step_has_its_own_message_id(builder: ReportBuilder) -> None:
    progress = ProgressUpdate(0, 1, 10, 0)
    reports = [
        *(builder.received(position, ["dump_dna"]) for position in (0, 1)),
        *(builder.submitted(0, process, 7) for process in ("dump_dna", "dump_rna")),
        *(builder.progress([0], "dump_dna", 7, update) for update in (progress, ProgressUpdate(0, 2, 10, 0))),
        *(builder.stalled([0, 1], "dump_dna", 7, "not_picked_up", "no_beekeeper", key) for key in "ab"),
        builder.process_finished(0, "dump_dna", outcome(), "1"),
        builder.process_finished(0, "dump_dna", outcome("failed"), "1"),
        builder.duplicate(0, "first"),
        builder.rejected(0, "no"),
        builder.no_process(0),
    ]
    assert len({report.message_id for report in reports}) == len(reports) == 13
    assert len({ReportBuilder(build_run(EVENT, run_id=name)).no_process(0).message_id for name in "ab"}) == 2


def test_the_progress_of_a_batch_has_the_number_of_events(builder: ReportBuilder) -> None:
    report = builder.progress([0, 1], "dump_dna", 7, ProgressUpdate(0, 5, 20, 1, "writing"))
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


def test_a_duplicate_is_reported_as_debug_with_the_first_run(builder: ReportBuilder) -> None:
    report = builder.duplicate(0, "first_run")
    assert (report.routing_key, facts(report)["first_run"]) == ("report.debug", "first_run")
    assert not is_at_least(report.report_type, "INFO")
    assert is_at_least(report.report_type, "DEBUG")


def test_an_invalid_conf_is_a_fatal_report() -> None:
    report = build_invalid_event_report(
        {"genome": "homo_sapiens"}, "run", ValueError("type: expected a string")
    )
    assert (report.routing_key, report.resource) == ("report.fatal", "homo_sapiens")
    assert report.message == "Event rejected: type: expected a string"


@pytest.mark.parametrize(
    "value",
    [pytest.param("\ud83d", id="surrogate"), pytest.param(json.loads("[" * 500 + "]" * 500), id="deep")],
)
def test_a_rejected_event_is_reported_without_fields_that_cannot_be_sent(value: Any) -> None:
    conf = {"type": "x", "genome": value if isinstance(value, str) else "g", "deep": value}
    report = ReportBuilder(build_run(conf)).rejected(0, "deep: expected something else")
    assert list(json.loads(report.body)["params"]) == ["event_hooks"]
    assert "deep: expected something else" in report.message


SECRET_EVENT = {"type": "handover", "src_uri": "mysql://user:hunter2pw@host/db", "password": "hunter2pw"}


def test_no_report_contains_a_secret_of_its_event_or_result() -> None:
    builder = ReportBuilder(build_run(SECRET_EVENT))
    result = {"events": [SECRET_EVENT], "log": "2-pass mapping; -pass hunter2pw"}
    error = "cannot read mysql://user:hunter2pw@host/db"
    reports = [
        builder.submitted(0, "dump_dna", 7),
        builder.process_finished(0, "dump_dna", outcome(result=result), "try1"),
        builder.process_finished(0, "dump_dna", outcome("failed", error=error), "try1"),
        builder.rejected(0, error),
        builder.follow_up_rejected(0, "dump_dna", SECRET_EVENT, error),
        build_invalid_event_report(SECRET_EVENT, "run", ValueError(error)),
    ]
    assert [report.body for report in reports if "hunter2pw" in report.body] == []
    assert reports[1].params["src_uri"] == "mysql://user:***@host/db"
    assert facts(reports[1])["output"]["log"] == "2-pass mapping; -pass ***"


def test_a_process_with_the_name_of_a_secret_keeps_its_state() -> None:
    statuses = [ProcessStatus(1, 0, "make_token", "hive", "event_dump", state="complete")]
    report = ReportBuilder(build_run(EVENT)).event_finished(0, statuses)
    assert '"processes": {"make_token": "complete"}' in report.message
