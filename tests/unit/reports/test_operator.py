"""Which reports a run makes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from event_hooks.reports.operator import Ended, reports_of
from event_hooks.reports.report import is_wanted

CONF = {"type": "new_assembly", "genome": "homo_sapiens", "event_id": "1"}


def outcome(job_id: int, state: str = "complete", **more: Any) -> dict[str, Any]:
    return {"job_id": job_id, "state": state, "result": None, "error": None} | more


def ended(outcomes: list[dict[str, Any]] | None, wait_state: str, **more: Any) -> Ended:
    job_ids = [7, 8][: len(outcomes) if outcomes else 1]
    positions = list(range(len(job_ids)))
    fields: dict[str, Any] = {
        "positions": positions,
        "submit_error": None,
        "job_ids": job_ids,
        "wait_error": None,
    }
    return Ended(**(fields | {"outcomes": outcomes, "wait_state": wait_state} | more))


def said(conf: object, end: Ended, route_error: str | None = None) -> list[tuple[str, str]]:
    made = reports_of(conf, "run", {"dump_dna": end}, route_error)
    return [(report.routing_key, report.message) for report in made]


def test_success_is_info_with_the_result() -> None:
    end = ended([outcome(7, result={"files": 3})], "success")
    assert said(CONF, end) == [
        (
            "report.info",
            'Event succeeded: {"process": "dump_dna", "run": "run", "id": 7, "status": "complete",'
            ' "output": {"files": 3}}',
        )
    ]


def test_failure_is_fatal_with_the_hives_message() -> None:
    (report,) = reports_of(
        CONF, "run", {"dump_dna": ended([outcome(7, "failed", error="disk full")], "failed")}, None
    )
    assert report.routing_key == "report.fatal"
    facts = json.loads(report.message.removeprefix("Event failed: "))
    assert facts == {"process": "dump_dna", "run": "run", "id": 7, "status": "failed", "error": "disk full"}
    assert (report.resource, report.params, report.process) == ("homo_sapiens", CONF, "event_processing")


def test_each_event_of_a_batch_has_its_own_verdict() -> None:
    conf = {"events": [{"type": "x", "genome": "a"}, {"type": "x", "genome": "b"}]}
    end = ended([outcome(7), outcome(8, "failed", error="e")], "failed")
    made = list(reports_of(conf, "run", {"dump_dna": end}, None))
    assert [(report.resource, report.routing_key) for report in made] == [
        ("a", "report.info"),
        ("b", "report.fatal"),
    ]
    assert len({report.message_id for report in made}) == 2


@pytest.mark.parametrize(
    ("end", "key", "part"),
    [
        (
            ended(None, "upstream_failed", job_ids=None, submit_error="hive 'h' refused"),
            "fatal",
            "hive 'h' refused",
        ),
        (ended(None, "upstream_failed", job_ids=None), "fatal", "no job was submitted"),
        (ended([outcome(7, "missing", error="gone")], "failed"), "fatal", "gone"),
        (ended(None, "failed"), "fatal", "before its job did"),
        (ended([outcome(7)], "failed"), "fatal", "before its job did"),
        (ended(None, "failed", wait_error="hive 'h' refused: gone"), "fatal", "hive 'h' refused: gone"),
        (ended(None, "removed"), "fatal", "left the lookup while its job ran"),
        (ended(None, "success"), "warn", "marked as success by a person"),
        (ended([outcome(7, "failed", error="disk full")], "success"), "fatal", "disk full"),
    ],
)
def test_only_an_outcome_read_from_the_hive_is_success(end: Ended, key: str, part: str) -> None:
    ((routing_key, message),) = said(CONF, end)
    assert routing_key == f"report.{key}"
    assert part in message
    assert "succeeded" not in message


def test_an_event_that_cannot_be_read_is_fatal() -> None:
    (report,) = reports_of({"genome": "homo_sapiens"}, "run", {}, "type: expected a string")
    assert report.routing_key == "report.fatal"
    assert report.message.startswith("Event refused: type: expected a string")
    assert (report.resource, report.params) == ("homo_sapiens", {"genome": "homo_sapiens"})


def test_an_event_that_could_not_be_routed_is_fatal() -> None:
    (report,) = reports_of(CONF, "run", {}, "type: expected one of a, b")
    assert (report.routing_key, report.message) == (
        "report.fatal",
        "Event refused: type: expected one of a, b",
    )


@pytest.mark.parametrize(
    "value",
    [pytest.param("\ud83d", id="surrogate"), pytest.param(json.loads("[" * 500 + "]" * 500), id="deep")],
)
def test_an_event_that_was_refused_is_reported_whatever_it_holds(value: Any) -> None:
    conf = {"type": "x", "genome": value if isinstance(value, str) else "g", "deep": value}
    (report,) = reports_of(conf, "run", {}, "deep: expected something else")
    assert json.loads(report.model_dump_json())["params"] == {}
    assert "deep: expected something else" in report.message


def test_an_event_of_a_batch_that_concerns_no_process_is_told() -> None:
    conf = {"events": [{"type": "x", "genome": "a"}, {"type": "y", "genome": "b"}]}
    made = list(reports_of(conf, "run", {"dump_dna": ended([outcome(7)], "success")}, None))
    assert [(report.resource, report.message[:10]) for report in made] == [
        ("a", "Event succ"),
        ("b", "No process"),
    ]


def test_another_failure_is_another_report_than_the_first() -> None:
    ids = set()
    for error in ("disk full", "disk full", "no memory"):
        end = ended([outcome(7, "failed", error=error)], "failed")
        ids |= {report.message_id for report in reports_of(CONF, "run", {"dump_dna": end}, None)}
    assert len(ids) == 2


def test_an_event_that_concerns_no_process_is_told() -> None:
    (report,) = reports_of(CONF, "run", {}, None)
    assert (report.routing_key, report.message) == ("report.info", "No process reacts to this event")


def test_an_event_that_is_known_is_ignored_with_the_run_that_has_it() -> None:
    (report,) = reports_of(CONF, "run", {}, None, {0: "first_run"})
    assert (report.routing_key, report.position) == ("report.debug", 0)
    facts = json.loads(report.message.removeprefix("Event ignored: "))
    assert facts == {"run": "run", "status": "known", "first_run": "first_run"}
    assert not is_wanted(report, "INFO")
    assert is_wanted(report, "DEBUG")
