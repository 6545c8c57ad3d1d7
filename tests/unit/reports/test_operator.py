"""What a run says of a process and event that has no outcome, though the run is over; and its summaries."""

from __future__ import annotations

import json
from typing import Any

import pytest

from event_hooks.ledger.records import ProcessStatus, State
from event_hooks.process_event.report import Ended, build_summaries, resolve_missing_outcome
from event_hooks.reports.builder import ReportBuilder

CONF = {"type": "new_assembly", "genome": "homo_sapiens", "event_id": "1"}


def ended(**given: Any) -> Ended:
    fields: dict[str, Any] = {
        "positions": [0],
        "submit_error": None,
        "job_ids": [7],
        "outcomes": None,
        "wait_error": None,
        "wait_state": "failed",
    }
    return Ended(**(fields | given))


def standing(position: int = 0, process: str = "dump_dna", **more: Any) -> ProcessStatus:
    return ProcessStatus(position + 100, position, process, "hive", "event_dump_dna", **more)


@pytest.mark.parametrize(
    ("end", "state", "key", "part"),
    [
        (ended(wait_state="success"), State.UNKNOWN, "warn", "marked as success by a person"),
        (ended(wait_error="no answer"), State.UNKNOWN, "fatal", "no answer"),
        (ended(wait_state=None), State.UNKNOWN, "fatal", "left the lookup while its job ran"),
        (ended(), State.UNKNOWN, "fatal", "the wait ended as failed before its job did"),
        (
            ended(submit_error="no analysis", job_ids=None, wait_state="upstream_failed"),
            State.NOT_SUBMITTED,
            "fatal",
            "no analysis",
        ),
        (ended(job_ids=None), State.NOT_SUBMITTED, "fatal", "the log of the task submit tells why"),
    ],
)
def test_without_an_outcome_from_the_hive_nothing_is_success(
    end: Ended, state: State, key: str, part: str
) -> None:
    found, error, report = resolve_missing_outcome(ReportBuilder(CONF, "run"), end, standing())
    assert (found, report.routing_key) == (state, f"report.{key}")
    assert part in error
    assert part in report.message
    assert "succeeded" not in report.message


def test_a_job_that_only_the_api_server_submitted_is_named() -> None:
    end = ended(positions=[], job_ids=None, wait_state=None)
    state, error, report = resolve_missing_outcome(ReportBuilder(CONF, "run"), end, standing(job_id=9))
    assert (state, report.routing_key) == (State.UNKNOWN, "report.fatal")
    assert "left the lookup while its job ran" in error
    assert '"id": 9' in report.message


def test_the_same_failure_of_a_submit_is_told_once_and_another_one_again() -> None:
    ids = set()
    for error in ("disk full", "disk full", "no memory"):
        *_, report = resolve_missing_outcome(
            ReportBuilder(CONF, "run"), ended(submit_error=error), standing()
        )
        ids.add(report.message_id)
    assert len(ids) == 2


def test_an_events_summary_has_all_its_processes() -> None:
    conf = {"events": [CONF, {"type": "y", "genome": "b"}]}
    both = [standing(state=State.COMPLETE), standing(process="dump_rna", state=State.FAILED, attempt="1")]
    one, other = build_summaries(ReportBuilder(conf, "run"), both, {0: 100, 1: 101})
    assert (one.resource, one.routing_key) == ("homo_sapiens", "report.info")
    assert json.loads(one.message.removeprefix("Event finished: ")) == {
        "run": "run",
        "genome": "homo_sapiens",
        "complete": 1,
        "failed": 1,
        "processes": {"dump_dna": "complete", "dump_rna": "failed"},
    }
    assert (other.resource, other.message) == ("b", "No process reacts to this event")


def test_a_summary_after_another_attempt_is_another_report() -> None:
    made = [
        next(
            build_summaries(
                ReportBuilder(CONF, "run"), [standing(state=State.FAILED, attempt=attempt)], {0: 100}
            )
        )
        for attempt in ("1", "1", "2")
    ]
    assert len({report.message_id for report in made}) == 2
