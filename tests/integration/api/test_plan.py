"""What events would do."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from event_hooks.hive import perl
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.overview import has_pending_work
from tests.integration.hives import PracticeHive


def test_a_plan_says_what_would_run_and_why_the_rest_would_not(
    api: TestClient, ledger: Ledger, first: PracticeHive
) -> None:
    event = {"type": "new_assembly", "genome": "homo_sapiens"}
    (planned,) = api.post("/plan", json=event).json()["events"]
    assert planned["event"] == event
    dump_dna, dump_peptide = planned["processes"]
    assert (dump_dna["process"], dump_dna["analysis"]) == ("dump_dna", "event_dump_dna")
    assert (dump_dna["hive"], dump_dna["is_ready"], dump_dna["problem"]) == (first.conn_id, True, None)
    assert dump_dna["input"]["event"] == event
    assert perl.loads(dump_dna["perl"]) == dump_dna["input"]
    assert dump_peptide["process"] == "dump_peptide"
    assert planned["others"] == [
        {"process": "dump_other", "reason": "it does not react to new_assembly, but to new_genebuild"},
        {"process": "dump_nothing", "reason": "it does not react to new_assembly, but to half_wrong"},
    ]
    assert first.rows("SELECT COUNT(*) FROM job") == [(0,)]
    assert not has_pending_work(ledger)


def test_a_plan_tells_of_an_analysis_that_is_not_there_and_a_hive_that_is_down(
    api: TestClient, first: PracticeHive, other: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{other.conn_id.upper()}", "mysql://somebody:secret@127.0.0.1:1/hive")
    answer = api.post("/plan", json=[{"type": "half_wrong"}, {"type": "new_genebuild"}])
    half_wrong, new_genebuild = answer.json()["events"]
    found = {one["process"]: one for one in half_wrong["processes"] + new_genebuild["processes"]}
    assert found["dump_nothing"]["is_ready"] is False
    assert "no analysis 'nothing'" in found["dump_nothing"]["problem"]
    assert found["dump_other"]["is_ready"] is None
    assert "does not answer" in found["dump_other"]["problem"]
    assert "secret" not in answer.text


def test_a_known_event_would_do_nothing(api: TestClient) -> None:
    event = {"type": "new_assembly", "event_id": "42"}
    run_id = api.post("/jobs", json=event).json()["run_id"]
    (planned,) = api.post("/plan", json=event).json()["events"]
    assert planned["processes"] == []
    assert planned["others"][0]["reason"] == f"the event is known, and not done again: run {run_id} has it"


@pytest.mark.parametrize(("body", "status"), [({}, 422), ({"type": "unheard_of"}, 404), ([], 422)])
def test_a_plan_refuses_what_a_submission_refuses(api: TestClient, body: object, status: int) -> None:
    answer = api.post("/plan", json=body)
    assert (answer.status_code, answer.json()) == (status, api.post("/jobs", json=body).json())
