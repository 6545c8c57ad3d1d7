"""Joins, and processes that run once, in the API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from event_hooks.events.lookups import load_cached
from event_hooks.ledger import joins
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import load_run_events
from event_hooks.ledger.outcomes import store_outcomes
from event_hooks.ledger.overview import has_pending_work
from event_hooks.ledger.records import ProcessOutcome, ProcessState
from event_hooks.process_event.runs import JOIN_PREFIX
from tests.integration.hives import PracticeHive

JOIN = {"process": "dump_other", "after": ["new_genebuild", "new_xrefs"], "within": "6h", "then": "alert"}
EVENTS = {
    "new_assembly": [{"process": "dump_dna", "once_per": ["genome", "assembly"]}, "dump_peptide"],
    "new_genebuild": [JOIN],
    "new_xrefs": [JOIN],
}
HUMAN = {"type": "new_assembly", "genome": "homo_sapiens", "assembly": "GRCh38"}


@pytest.fixture(autouse=True)
def write_lookups(lookup_files: dict[str, Path]) -> None:
    lookup_files["event_lookup"].write_text(json.dumps(EVENTS))


def skip_reasons(response: Any) -> dict[str, str]:
    (planned,) = response.json()["events"]
    return {other["process"]: other["reason"] for other in planned["others"]}


def test_a_finished_process_is_skipped(api: TestClient, ledger: Ledger, first_hive: PracticeHive) -> None:
    assert api.post("/plan", json=HUMAN).json()["events"][0]["processes"][0]["process"] == "dump_dna"
    first_response = api.post("/jobs", json={**HUMAN, "event_id": "1"})
    assert [process["state"] for process in first_response.json()["processes"]] == ["submitted", "submitted"]
    reason = skip_reasons(api.post("/plan", json=HUMAN))["dump_dna"]
    assert reason.startswith('dump_dna runs once for genome "homo_sapiens", assembly "GRCh38", and event ')
    second_response = api.post("/jobs", json={**HUMAN, "event_id": "2"})
    assert second_response.status_code == 201
    skipped, peptide = second_response.json()["processes"]
    assert (skipped["state"], skipped["job"], skipped["message"]) == ("skipped", None, reason)
    assert peptide["state"] == "submitted"
    assert first_hive.fetch_rows(
        "SELECT COUNT(*) FROM job JOIN analysis_base USING (analysis_id) WHERE logic_name = 'event_dump_dna'"
    ) == [(1,)]
    page = api.get(f"/board/events/{second_response.json()['id']}").text
    assert "skipped" in page
    assert "runs once for" in page


def test_force_with_a_reason_runs_a_process_again(api: TestClient) -> None:
    api.post("/jobs", json=HUMAN)
    rejected = api.post("/jobs", json={**HUMAN, "force": True})
    assert rejected.status_code == 422
    assert rejected.json()["error"] == "reason: expected a reason, which is required with force"
    forced = {**HUMAN, "force": True, "reason": "new software"}
    assert [
        process["process"] for process in api.post("/plan", json=forced).json()["events"][0]["processes"]
    ] == [
        "dump_dna",
        "dump_peptide",
    ]
    assert api.post("/jobs", json=forced).json()["processes"][0]["state"] == "submitted"


def test_a_failed_process_runs_again(api: TestClient, ledger: Ledger) -> None:
    accepted = api.post("/jobs", json=HUMAN).json()
    store_outcomes(ledger, "dump_dna", [ProcessOutcome(accepted["id"], ProcessState.FAILED)], "ti", ())
    assert api.post("/jobs", json=HUMAN).json()["processes"][0]["state"] == "submitted"


def test_the_first_of_equal_events_in_a_batch_runs(api: TestClient) -> None:
    accepted = api.post("/jobs", json=[HUMAN, HUMAN, {**HUMAN, "assembly": "GRCh39"}]).json()
    assert [event["processes"][0]["state"] for event in accepted] == ["submitted", "skipped", "submitted"]


def test_a_missing_field_of_a_rule_is_an_error(api: TestClient, ledger: Ledger) -> None:
    response = api.post("/jobs", json={"type": "new_assembly", "genome": "homo_sapiens"})
    assert response.status_code == 422
    expected = "assembly: expected a value, or null: dump_dna runs once per genome, assembly"
    assert response.json()["error"] == expected
    assert not has_pending_work(ledger)


def test_a_plan_names_the_missing_events_of_a_join(api: TestClient, ledger: Ledger) -> None:
    event = {"type": "new_genebuild", "genome": "homo_sapiens"}
    reason = skip_reasons(api.post("/plan", json=event))["dump_other"]
    assert reason.startswith(
        "waits for new_genebuild and new_xrefs for homo_sapiens; missing: new_xrefs; times out at "
    )
    assert reason.endswith(" UTC, then it reports a warning")
    accepted = api.post("/jobs", json=event).json()
    assert accepted["processes"] == []
    joins.record_join_events(
        ledger, load_run_events(ledger, accepted["run_id"]), load_cached().rules.joins, JOIN_PREFIX
    )
    last = {"type": "new_xrefs", "genome": "homo_sapiens"}
    assert skip_reasons(api.post("/plan", json=last))["dump_other"] == (
        "runs for a joined event, because new_genebuild and new_xrefs have arrived for homo_sapiens"
    )
    board = api.get("/board").text
    assert "Open joins" in board
    assert "then a warning is reported" in board
    assert "Open joins" in api.get("/board?genome=homo").text
    assert "Open joins" not in api.get("/board?genome=mus").text
    page = api.get(f"/board/events/{accepted['id']}").text
    assert "new_xrefs missing, timeout" in page


def test_a_caller_cannot_submit_a_joined_event(api: TestClient) -> None:
    joined = {"process": "dump_other", "missing": [], "events": []}
    response = api.post("/jobs", json={"type": "new_genebuild", "joined": joined})
    expected = "joined: expected no such field: only event hooks set it"
    assert (response.status_code, response.json()["error"]) == (422, expected)


@pytest.mark.parametrize(
    ("correlation_id", "status"),
    [("abc", 201), ("run/x", 201), ("run/9999999999999999", 201), ("a" * 300, 422)],
)
def test_a_correlation_id_is_shown_or_rejected(correlation_id: str, status: int, api: TestClient) -> None:
    follows = {"correlation_id": correlation_id, "causation_id": "abc", "hops": 1, "chain": ["theirs"]}
    response = api.post("/jobs", json={"type": "new_genebuild", "genome": "g", "follows": follows})
    assert response.status_code == status, response.text
    if status == 201:
        assert api.get(f"/board/events/{response.json()['id']}").status_code == 200
    else:
        assert response.json()["error"].startswith("follows.correlation_id: ")
