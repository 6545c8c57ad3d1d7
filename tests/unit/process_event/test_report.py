"""Outcomes of processes that no wait recorded, and summaries of events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from event_hooks.ledger.records import ProcessState, ProcessStatus
from event_hooks.process_event.report import TaskResults, build_summaries, resolve_missing_outcome
from event_hooks.reports.builder import ReportBuilder

CONF = {"type": "new_assembly", "genome": "homo_sapiens", "event_id": "1"}


def build_results(**changed: Any) -> TaskResults:
    fields: dict[str, Any] = {
        "positions": [0],
        "submit_error": None,
        "job_ids": [7],
        "outcomes": None,
        "wait_error": None,
        "wait_state": "failed",
    }
    return TaskResults(**(fields | changed))


def build_status(position: int = 0, process: str = "dump_dna", **fields: Any) -> ProcessStatus:
    return ProcessStatus(position + 100, position, process, "hive", "event_dump_dna", **fields)


@pytest.mark.parametrize(
    ("results", "state", "level", "error_part"),
    [
        (
            build_results(wait_state="success"),
            ProcessState.UNKNOWN,
            "warn",
            "a user marked the wait as success",
        ),
        (build_results(wait_error="no answer"), ProcessState.UNKNOWN, "fatal", "no answer"),
        (
            build_results(wait_state=None),
            ProcessState.UNKNOWN,
            "fatal",
            "removed from the lookup while its job ran",
        ),
        (
            build_results(),
            ProcessState.UNKNOWN,
            "fatal",
            "a user ended the wait as failed before its job finished",
        ),
        (
            build_results(submit_error="no analysis", job_ids=None, wait_state="upstream_failed"),
            ProcessState.NOT_SUBMITTED,
            "fatal",
            "no analysis",
        ),
        (build_results(job_ids=None), ProcessState.NOT_SUBMITTED, "fatal", "see the log of the task submit"),
    ],
)
def test_a_process_without_an_outcome_from_its_hive_is_no_success(
    results: TaskResults, state: ProcessState, level: str, error_part: str
) -> None:
    resolved, error, report = resolve_missing_outcome(ReportBuilder(CONF, "run"), results, build_status())
    assert (resolved, report.routing_key) == (state, f"report.{level}")
    assert error_part in error
    assert error_part in report.message
    assert "succeeded" not in report.message


def test_the_report_names_a_job_that_only_the_api_server_submitted() -> None:
    results = build_results(positions=[], job_ids=None, wait_state=None)
    state, error, report = resolve_missing_outcome(
        ReportBuilder(CONF, "run"), results, build_status(job_id=9)
    )
    assert (state, report.routing_key) == (ProcessState.UNKNOWN, "report.fatal")
    assert "removed from the lookup while its job ran" in error
    assert '"id": 9' in report.message


def test_each_error_of_a_submit_is_reported_once() -> None:
    message_ids = set()
    for error in ("disk full", "disk full", "no memory"):
        *_, report = resolve_missing_outcome(
            ReportBuilder(CONF, "run"), build_results(submit_error=error), build_status()
        )
        message_ids.add(report.message_id)
    assert len(message_ids) == 2


def test_the_summary_of_an_event_has_all_its_processes() -> None:
    conf = {"events": [CONF, {"type": "y", "genome": "b"}]}
    statuses = [
        build_status(state=ProcessState.COMPLETE),
        build_status(process="dump_rna", state=ProcessState.FAILED, attempt="1"),
    ]
    first, second = build_summaries(ReportBuilder(conf, "run"), statuses, {0: 100, 1: 101})
    assert (first.resource, first.routing_key) == ("homo_sapiens", "report.info")
    assert json.loads(first.message.removeprefix("Event finished: ")) == {
        "run": "run",
        "genome": "homo_sapiens",
        "complete": 1,
        "failed": 1,
        "processes": {"dump_dna": "complete", "dump_rna": "failed"},
    }
    assert (second.resource, second.message) == ("b", "No process reacts to this event")


def test_the_summary_of_another_attempt_is_another_report() -> None:
    reports = [
        next(
            build_summaries(
                ReportBuilder(CONF, "run"),
                [build_status(state=ProcessState.FAILED, attempt=attempt)],
                {0: 100},
            )
        )
        for attempt in ("1", "1", "2")
    ]
    assert len({report.message_id for report in reports}) == 2
