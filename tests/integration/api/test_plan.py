"""The plan of an event, without submitting it."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from event_hooks.hive import perl
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.overview import has_pending_work
from tests.integration.hives import PracticeHive


def test_a_plan_names_processes_that_run_and_reasons_of_the_others(
    api: TestClient, ledger: Ledger, first_hive: PracticeHive
) -> None:
    event = {"type": "new_assembly", "genome": "homo_sapiens"}
    plan = api.post("/plan", json=event).json()
    (planned,) = plan["events"]
    assert planned["event"] == event
    dump_dna, dump_peptide = planned["processes"]
    assert (dump_dna["process"], dump_dna["analysis"]) == ("dump_dna", "event_dump_dna")
    assert (dump_dna["hive"], dump_dna["is_ready"], dump_dna["problem"]) == (first_hive.conn_id, True, None)
    assert perl.loads(planned["perl"])["event"] == event
    assert dump_peptide["process"] == "dump_peptide"
    assert planned["others"] == []
    assert plan["not_reacting"] == {
        "new_assembly": [
            {"process": "dump_other", "reason": "does not react to new_assembly; reacts to new_genebuild"},
            {"process": "dump_nothing", "reason": "does not react to new_assembly; reacts to half_wrong"},
        ]
    }
    assert first_hive.fetch_rows("SELECT COUNT(*) FROM job") == [(0,)]
    assert not has_pending_work(ledger)


def test_a_plan_names_a_missing_analysis_and_an_unavailable_hive(
    api: TestClient, first_hive: PracticeHive, other_hive: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        f"AIRFLOW_CONN_{other_hive.conn_id.upper()}", "mysql://some_user:secret@127.0.0.1:1/hive"
    )
    response = api.post("/plan", json=[{"type": "half_wrong"}, {"type": "new_genebuild"}])
    half_wrong, new_genebuild = response.json()["events"]
    processes = {
        process["process"]: process for process in half_wrong["processes"] + new_genebuild["processes"]
    }
    assert processes["dump_nothing"]["is_ready"] is False
    assert "no analysis 'nothing'" in processes["dump_nothing"]["problem"]
    assert processes["dump_other"]["is_ready"] is None
    assert "does not answer" in processes["dump_other"]["problem"]
    assert "secret" not in response.text


def test_the_plan_of_a_duplicate_starts_nothing(api: TestClient) -> None:
    event = {"type": "new_assembly", "event_id": "42"}
    run_id = api.post("/jobs", json=event).json()["run_id"]
    (planned,) = api.post("/plan", json=event).json()["events"]
    assert planned["processes"] == []
    assert planned["others"][0]["reason"] == f"the event is a duplicate: run {run_id} has it"


def test_a_plan_is_not_much_longer_than_the_events(api: TestClient) -> None:
    response = api.post("/plan", json=[{"type": "new_assembly", "genome": f"g{n}"} for n in range(5000)])
    assert len(response.content) < 15 * len(response.request.content)


@pytest.mark.parametrize(("body", "status"), [({}, 422), ({"type": "unheard_of"}, 404), ([], 422)])
def test_a_plan_rejects_the_same_events_as_a_submission(api: TestClient, body: object, status: int) -> None:
    response = api.post("/plan", json=body)
    assert (response.status_code, response.json()) == (status, api.post("/jobs", json=body).json())
