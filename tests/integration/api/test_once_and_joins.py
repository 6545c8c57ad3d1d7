"""What waits for several events, and what is done once, as the API has it."""

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
from event_hooks.ledger.overview import has_pending_work
from event_hooks.ledger.processes import store_outcomes
from event_hooks.ledger.records import ProcessOutcome, State
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
def these_lookups(lookup_files: dict[str, Path]) -> None:
    lookup_files["event_lookup"].write_text(json.dumps(EVENTS))


def reasons(answer: Any) -> dict[str, str]:
    (planned,) = answer.json()["events"]
    return {one["process"]: one["reason"] for one in planned["others"]}


def test_what_was_done_is_not_done_again(api: TestClient, ledger: Ledger, first: PracticeHive) -> None:
    assert api.post("/plan", json=HUMAN).json()["events"][0]["processes"][0]["process"] == "dump_dna"
    done = api.post("/jobs", json={**HUMAN, "event_id": "1"})
    assert [one["state"] for one in done.json()["processes"]] == ["submitted", "submitted"]
    explained = reasons(api.post("/plan", json=HUMAN))["dump_dna"]
    assert explained.startswith(
        'dump_dna is done once for genome "homo_sapiens", assembly "GRCh38", and event '
    )
    again = api.post("/jobs", json={**HUMAN, "event_id": "2"})
    assert again.status_code == 201
    skipped, peptide = again.json()["processes"]
    assert (skipped["state"], skipped["job"], skipped["message"]) == ("skipped", None, explained)
    assert peptide["state"] == "submitted"
    assert first.rows(
        "SELECT COUNT(*) FROM job JOIN analysis_base USING (analysis_id) WHERE logic_name = 'event_dump_dna'"
    ) == [(1,)]
    page = api.get(f"/board/events/{again.json()['id']}").text
    assert "skipped" in page
    assert "is done once for" in page


def test_it_is_done_again_by_force_with_a_reason(api: TestClient) -> None:
    api.post("/jobs", json=HUMAN)
    refused = api.post("/jobs", json={**HUMAN, "force": True})
    assert refused.status_code == 422
    assert refused.json() == {"error": "reason: expected a text that says why, beside force"}
    forced = {**HUMAN, "force": True, "reason": "new software"}
    assert [one["process"] for one in api.post("/plan", json=forced).json()["events"][0]["processes"]] == [
        "dump_dna",
        "dump_peptide",
    ]
    assert api.post("/jobs", json=forced).json()["processes"][0]["state"] == "submitted"


def test_it_is_done_again_after_a_failure(api: TestClient, ledger: Ledger) -> None:
    done = api.post("/jobs", json=HUMAN).json()
    store_outcomes(ledger, "dump_dna", [ProcessOutcome(done["id"], State.FAILED)], "ti", ())
    assert api.post("/jobs", json=HUMAN).json()["processes"][0]["state"] == "submitted"


def test_of_equal_ones_in_a_batch_the_first_is_done(api: TestClient) -> None:
    answers = api.post("/jobs", json=[HUMAN, HUMAN, {**HUMAN, "assembly": "GRCh39"}]).json()
    assert [one["processes"][0]["state"] for one in answers] == ["submitted", "skipped", "submitted"]


def test_a_field_that_the_rule_needs_is_asked_for(api: TestClient, ledger: Ledger) -> None:
    answer = api.post("/jobs", json={"type": "new_assembly", "genome": "homo_sapiens"})
    assert answer.status_code == 422
    expected = "assembly: expected a value, or null: dump_dna is done once per genome, assembly"
    assert answer.json() == {"error": expected}
    assert not has_pending_work(ledger)


def test_a_plan_says_what_is_awaited(api: TestClient, ledger: Ledger) -> None:
    event = {"type": "new_genebuild", "genome": "homo_sapiens"}
    explained = reasons(api.post("/plan", json=event))["dump_other"]
    assert explained.startswith(
        "it waits until new_genebuild and new_xrefs have come for homo_sapiens: new_xrefs is missing; on "
    )
    assert explained.endswith("UTC it would report a warning")
    taken = api.post("/jobs", json=event).json()
    assert taken["processes"] == []
    joins.note(ledger, load_run_events(ledger, taken["run_id"]), load_cached().rules.joins, JOIN_PREFIX)
    last = {"type": "new_xrefs", "genome": "homo_sapiens"}
    assert reasons(api.post("/plan", json=last))["dump_other"] == (
        "it runs, by an event of its own, because new_genebuild and new_xrefs have come for homo_sapiens"
    )
    board = api.get("/board").text
    assert "What is awaited" in board
    assert "then a warning is reported" in board
    assert "What is awaited" in api.get("/board?genome=homo").text
    assert "What is awaited" not in api.get("/board?genome=mus").text
    page = api.get(f"/board/events/{taken['id']}").text
    assert "new_xrefs missing, until" in page


def test_nobody_else_makes_an_event_of_several(api: TestClient) -> None:
    joined = {"process": "dump_other", "missing": [], "events": []}
    answer = api.post("/jobs", json={"type": "new_genebuild", "joined": joined})
    assert (answer.status_code, answer.json()) == (
        422,
        {"error": "joined: expected none: event hooks make it"},
    )


@pytest.mark.parametrize(
    ("correlation_id", "status"),
    [("abc", 201), ("run/x", 201), ("run/9999999999999999", 201), ("a" * 300, 422)],
)
def test_a_correlation_id_of_another_system_is_shown_or_refused(
    correlation_id: str, status: int, api: TestClient
) -> None:
    follows = {"correlation_id": correlation_id, "causation_id": "abc", "hops": 1, "chain": ["theirs"]}
    answer = api.post("/jobs", json={"type": "new_genebuild", "genome": "g", "follows": follows})
    assert answer.status_code == status, answer.text
    if status == 201:
        assert api.get(f"/board/events/{answer.json()['id']}").status_code == 200
    else:
        assert answer.json()["error"].startswith("follows.correlation_id: ")
