"""Jobs as the callers of the event app know them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.integration.hives import PracticeHive


def submitted(api: TestClient, **event: Any) -> int:
    """Submit an event, and give the job of dump_dna."""
    return int(
        api.post("/jobs", json={"type": "new_assembly", "genome": "homo_sapiens", **event}).json()["job_id"]
    )


def test_a_job_is_told_from_submitted_to_complete(api: TestClient, first: PracticeHive) -> None:
    job_id = submitted(api, comment="é \\ '#'")
    fresh = api.get(f"/jobs/dump_dna/{job_id}").json()
    assert fresh["input"]["event"] == {
        "type": "new_assembly",
        "genome": "homo_sapiens",
        "comment": "é \\ '#'",
    }
    assert (fresh["id"], fresh["status"], fresh["progress"]) == (
        job_id,
        "submitted",
        {"complete": 0, "total": 1},
    )
    first.change("UPDATE job SET status = 'RUN' WHERE job_id = :id", id=job_id)
    assert api.get(f"/jobs/dump_dna/{job_id}").json()["status"] == "running"
    first.change("UPDATE job SET status = 'READY' WHERE job_id = :id", id=job_id)
    first.work()
    done = api.get(f"/jobs/dump_dna/{job_id}/").json()
    assert (done["status"], done["output"]["genome"]) == ("complete", "homo_sapiens")
    assert done["progress"]["complete"] == done["progress"]["total"] > 1
    assert done["progress"]["message"]
    assert re.match(r"\d{4}-\d\d-\d\dT", done["when_completed"])


def test_a_job_that_waits_for_others_is_incomplete(api: TestClient, first: PracticeHive) -> None:
    job_id = submitted(api)
    first.change("UPDATE job SET status = 'DONE' WHERE job_id = :id", id=job_id)
    first.add_job(prev_job_id=job_id, status="READY")
    assert api.get(f"/jobs/dump_dna/{job_id}").json()["status"] == "incomplete"


def test_a_failure_in_the_tree_is_told(api: TestClient, first: PracticeHive) -> None:
    job_id = submitted(api)
    first.change("UPDATE job SET status = 'DONE' WHERE job_id = :id", id=job_id)
    child = first.add_job(prev_job_id=job_id, status="FAILED")
    first.change(
        "INSERT INTO log_message (job_id, retry, status, message_class, msg)"
        " VALUES (:id, 0, 'RUN', 'WORKER_ERROR', 'disk full on mysql://ensro:secret@host/db')",
        id=child,
    )
    assert api.get(f"/jobs/dump_dna/{job_id}").json()["status"] == "failed"
    (failures,) = api.get(f"/jobs/dump_dna/{job_id}?format=failures").json().items()
    assert failures[0] == str(child)
    assert "disk full" in failures[1]
    assert "secret" not in failures[1]


def test_an_address_is_given_back(api: TestClient) -> None:
    job_id = submitted(api)
    assert api.get(f"/jobs/dump_dna/{job_id}?format=email&email=a@b").json()["email"] == "a@b"
    assert "email" not in api.get(f"/jobs/dump_dna/{job_id}").json()
    for query in ("format=email", "format=xml"):
        assert api.get(f"/jobs/dump_dna/{job_id}?{query}").status_code == 400


def test_an_input_that_is_no_plain_hash_spoils_no_list(api: TestClient, first: PracticeHive) -> None:
    first.add_job(input_id="{'event' => \"a\nb\\", status="READY")
    first.add_job(input_id="{'event' => system('id')}", status="READY")
    inputs = [one["input"] for one in api.get("/jobs/dump_dna").json()]
    assert inputs == ["{'event' => system('id')}", "{'event' => \"a\nb\\"]


def test_jobs_are_listed_page_by_page(api: TestClient) -> None:
    batch = [{"type": "new_assembly", "genome": f"g{n}"} for n in range(5)]
    ids = sorted((one["job_id"] for one in api.post("/jobs", json=batch).json()), reverse=True)
    found, address = [], "/jobs/dump_dna/?limit=2"
    while address:
        page = api.get(address)
        found.append([one["id"] for one in page.json()])
        address = page.links.get("next", {}).get("url", "")
    assert found == [ids[:2], ids[2:4], ids[4:]]


@pytest.mark.parametrize("limit", ["0", "1001", "x"])
def test_a_page_has_a_limit(api: TestClient, limit: str) -> None:
    answer = api.get(f"/jobs/dump_dna?limit={limit}")
    assert (answer.status_code, answer.json()["error"].startswith("limit: ")) == (422, True)


def test_deleting_stops_what_has_not_begun_and_deletes_nothing(api: TestClient, first: PracticeHive) -> None:
    job_id = submitted(api)
    answer = api.delete(f"/jobs/dump_dna/{job_id}/")
    assert answer.json() == {"id": job_id, "process": "dump_dna", "stopped": [job_id], "running": []}
    assert first.rows("SELECT status FROM job WHERE job_id = :id", id=job_id) == [("DONE",)]
    stopped = api.get(f"/jobs/dump_dna/{job_id}").json()
    assert stopped["status"] == "failed"
    assert "stopped" in api.get(f"/jobs/dump_dna/{job_id}?format=failures").json()[str(job_id)]
    assert api.delete(f"/jobs/dump_dna/{job_id}").json()["stopped"] == []


@pytest.mark.parametrize("address", ["/jobs/dump_peptide/{}", "/jobs/dump_dna/4711", "/jobs/unheard_of/{}"])
def test_a_job_of_another_process_is_not_found(api: TestClient, first: PracticeHive, address: str) -> None:
    job_id = submitted(api)
    for method in ("GET", "DELETE"):
        answer = api.request(method, address.format(job_id))
        assert (answer.status_code, list(answer.json())) == (404, ["error"])
    assert first.rows("SELECT DISTINCT status FROM job") == [("READY",)]


@pytest.mark.parametrize("job_id", ["x", "0", "-1", str(2**63), "1.5"])
def test_what_is_no_job_id_is_named(api: TestClient, job_id: str) -> None:
    answer = api.get(f"/jobs/dump_dna/{job_id}")
    assert (answer.status_code, answer.json()["error"].startswith("job_id: ")) == (422, True)


def test_an_analysis_that_is_not_there_is_not_found(api: TestClient) -> None:
    assert api.get("/jobs/dump_nothing").json() == {"error": api.get("/jobs/dump_nothing/1").json()["error"]}
    assert api.get("/jobs/dump_nothing").status_code == 404


def test_a_hive_that_is_down_is_503_without_its_address(
    api: TestClient, first: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{first.conn_id.upper()}", "mysql://somebody:secret@127.0.0.1:1/hive")
    for answer in (api.get("/jobs/dump_dna"), api.get("/jobs/dump_dna/1"), api.delete("/jobs/dump_dna/1")):
        assert answer.status_code == 503
        assert answer.json() == {"error": f"hive '{first.conn_id}' does not answer now"}


def test_names_are_listed(api: TestClient) -> None:
    assert api.get("/events").json() == ["half_wrong", "new_assembly", "new_genebuild", "nothing"]
    assert api.get("/processes/").json() == ["dump_dna", "dump_nothing", "dump_other", "dump_peptide"]


def test_an_event_is_told_as_the_ledger_has_it(api: TestClient) -> None:
    answer = api.post("/jobs", json={"type": "new_assembly", "genome": "homo_sapiens", "comment": "x"}).json()
    told = api.get(f"/events/{answer['id']}/").json()
    assert (told["event"], told["run_id"], told["url"]) == (answer["event"], answer["run_id"], answer["url"])
    assert (told["state"], told["is_finished"]) == ("waiting", False)
    assert [one["process"] for one in told["processes"]] == ["dump_dna", "dump_peptide"]
    missing = api.get("/events/4711")
    assert (missing.status_code, missing.json()) == (
        404,
        {"error": "event 4711: the ledger has no such event"},
    )


def test_an_odd_result_spoils_no_list(api: TestClient, first: PracticeHive) -> None:
    job_id = submitted(api)
    first.change("UPDATE job SET status = 'DONE' WHERE job_id = :id", id=job_id)
    odd = '{"s": "\\ud83d", "n": NaN}'
    first.change("INSERT INTO result (job_id, output) VALUES (:id, :odd)", id=job_id, odd=odd)
    strange = first.add_job(input_id='{"event" => {"x" => "\\x{d800}"}}', status="READY")
    listed = {one["id"]: one for one in api.get("/jobs/dump_dna").json()}
    assert listed[job_id]["output"]["s"] == "?"
    assert listed[strange]["input"] == {"event": {"x": "?"}}
