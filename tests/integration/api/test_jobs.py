"""Jobs as the clients of the old event app know them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient

from event_hooks.hive.sql.job_views import MAX_LISTED_CHARS
from tests.integration.hives import PracticeHive


def submit_event(api: TestClient, **event: Any) -> int:
    """Submit an event, and return the job id of dump_dna."""
    return int(
        api.post("/jobs", json={"type": "new_assembly", "genome": "homo_sapiens", **event}).json()["job_id"]
    )


def test_a_job_is_shown_from_submitted_to_complete(api: TestClient, first_hive: PracticeHive) -> None:
    job_id = submit_event(api, comment="é \\ '#'")
    pending = api.get(f"/jobs/dump_dna/{job_id}").json()
    assert pending["input"]["event"] == {
        "type": "new_assembly",
        "genome": "homo_sapiens",
        "comment": "é \\ '#'",
    }
    assert (pending["id"], pending["status"], pending["progress"]) == (
        job_id,
        "submitted",
        {"complete": 0, "total": 1},
    )
    first_hive.execute("UPDATE job SET status = 'RUN' WHERE job_id = :id", id=job_id)
    assert api.get(f"/jobs/dump_dna/{job_id}").json()["status"] == "running"
    first_hive.execute("UPDATE job SET status = 'READY' WHERE job_id = :id", id=job_id)
    first_hive.run_jobs()
    finished = api.get(f"/jobs/dump_dna/{job_id}/").json()
    assert (finished["status"], finished["output"]["genome"]) == ("complete", "homo_sapiens")
    assert finished["progress"]["complete"] == finished["progress"]["total"] > 1
    assert finished["progress"]["message"]
    assert re.match(r"\d{4}-\d\d-\d\dT", finished["when_completed"])


def test_a_done_job_with_an_unfinished_child_is_incomplete(api: TestClient, first_hive: PracticeHive) -> None:
    job_id = submit_event(api)
    first_hive.complete_jobs("job_id = :id", id=job_id)
    first_hive.add_job(prev_job_id=job_id, status="READY")
    assert api.get(f"/jobs/dump_dna/{job_id}").json()["status"] == "incomplete"


def test_a_failure_in_the_job_tree_is_shown(api: TestClient, first_hive: PracticeHive) -> None:
    job_id = submit_event(api)
    first_hive.complete_jobs("job_id = :id", id=job_id)
    child = first_hive.add_job(prev_job_id=job_id, status="FAILED")
    first_hive.execute(
        "INSERT INTO log_message (job_id, retry, status, message_class, msg)"
        " VALUES (:id, 0, 'RUN', 'WORKER_ERROR', 'disk full on mysql://ensro:secret@host/db')",
        id=child,
    )
    assert api.get(f"/jobs/dump_dna/{job_id}").json()["status"] == "failed"
    (failures,) = api.get(f"/jobs/dump_dna/{job_id}?format=failures").json().items()
    assert failures[0] == str(child)
    assert "disk full" in failures[1]
    assert "secret" not in failures[1]


def test_an_email_address_is_returned(api: TestClient) -> None:
    job_id = submit_event(api)
    assert api.get(f"/jobs/dump_dna/{job_id}?format=email&email=a@b").json()["email"] == "a@b"
    assert "email" not in api.get(f"/jobs/dump_dna/{job_id}").json()
    assert api.get(f"/jobs/dump_dna/{job_id}?format=email").json()["email"] is None
    assert api.get(f"/jobs/dump_dna/{job_id}?format=xml").status_code == 422


def test_a_list_of_jobs_includes_inputs_that_are_not_plain_hashes(
    api: TestClient, first_hive: PracticeHive
) -> None:
    first_hive.add_job(input_id="{'event' => \"a\nb\\", status="READY")
    first_hive.add_job(input_id="{'event' => system('id')}", status="READY")
    inputs = [job["input"] for job in api.get("/jobs/dump_dna").json()]
    assert inputs == ["{'event' => system('id')}", "{'event' => \"a\nb\\"]


def test_jobs_are_paginated(api: TestClient) -> None:
    batch = [{"type": "new_assembly", "genome": f"g{number}"} for number in range(5)]
    ids = sorted((job["job_id"] for job in api.post("/jobs", json=batch).json()), reverse=True)
    pages, address = [], "/jobs/dump_dna/?limit=2"
    while address:
        page = api.get(address)
        pages.append([job["id"] for job in page.json()])
        address = page.links.get("next", {}).get("url", "")
    assert pages == [ids[:2], ids[2:4], ids[4:]]


def test_a_list_of_jobs_is_short_however_long_their_inputs_and_outputs_are(
    api: TestClient, first_hive: PracticeHive
) -> None:
    for _ in range(20):
        job_id = submit_event(api, comment="x" * 500_000)
    first_hive.complete_jobs("TRUE")
    output = f'{{"text": "{"y" * 60_000}"}}'
    first_hive.execute("INSERT INTO result SELECT job_id, :output FROM job", output=output)
    response = api.get("/jobs/dump_dna")
    assert len(response.json()) == 20
    assert len(response.content) < 20 * (2 * MAX_LISTED_CHARS + 500)
    assert response.json()[0]["input"].startswith('{"event" => {"comment" => "xxx')
    assert response.json()[0]["output"].startswith('{"text": "yyy')
    job = api.get(f"/jobs/dump_dna/{job_id}").json()
    assert (len(job["input"]["event"]["comment"]), len(job["output"]["text"])) == (500_000, 60_000)


@pytest.mark.parametrize("limit", ["0", "1001", "x"])
def test_an_invalid_page_limit_is_rejected(api: TestClient, limit: str) -> None:
    response = api.get(f"/jobs/dump_dna?limit={limit}")
    assert (response.status_code, response.json()["error"].startswith("limit: ")) == (422, True)


def test_delete_stops_pending_jobs_and_deletes_no_row(api: TestClient, first_hive: PracticeHive) -> None:
    job_id = submit_event(api)
    response = api.delete(f"/jobs/dump_dna/{job_id}/")
    assert response.json() == {"id": job_id, "process": "dump_dna", "stopped": [job_id], "running": []}
    assert first_hive.fetch_rows("SELECT status FROM job WHERE job_id = :id", id=job_id) == [("DONE",)]
    stopped = api.get(f"/jobs/dump_dna/{job_id}").json()
    assert stopped["status"] == "failed"
    assert "stopped" in api.get(f"/jobs/dump_dna/{job_id}?format=failures").json()[str(job_id)]
    assert api.delete(f"/jobs/dump_dna/{job_id}").json()["stopped"] == []


def test_a_stop_that_times_out_does_not_happen_later(
    api: TestClient, first_hive: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__VIEW_TIMEOUT", "1")
    job_id = submit_event(api)
    with first_hive.transaction() as blocking:
        blocking.exec_driver_sql(f"UPDATE job SET retry_count = 1 WHERE job_id = {job_id}")
        response = api.delete(f"/jobs/dump_dna/{job_id}")
    assert response.status_code == 503
    assert response.json()["error"] == (
        f"hive '{first_hive.conn_id}' has not confirmed the stop of job {job_id}, which may still happen:"
        f" check the status with GET /jobs/dump_dna/{job_id}, and repeat the request if needed"
    )
    time.sleep(1.5)  # the timeout of the statement that waited for the lock has passed
    assert api.get(f"/jobs/dump_dna/{job_id}").json()["status"] == "submitted"
    assert api.delete(f"/jobs/dump_dna/{job_id}").json()["stopped"] == [job_id]


def test_a_client_without_json_gets_no_content_from_a_stop(api: TestClient, first_hive: PracticeHive) -> None:
    """The client of the old event app expects it."""
    job_id = submit_event(api)
    response = api.delete(f"/jobs/dump_dna/{job_id}/", headers={"Accept": "*/*"})
    assert (response.status_code, response.content) == (204, b"")
    assert first_hive.fetch_rows("SELECT status FROM job WHERE job_id = :id", id=job_id) == [("DONE",)]


@pytest.mark.parametrize("address", ["/jobs/dump_peptide/{}", "/jobs/dump_dna/4711", "/jobs/unheard_of/{}"])
def test_a_job_of_another_process_is_not_found(
    api: TestClient, first_hive: PracticeHive, address: str
) -> None:
    job_id = submit_event(api)
    for method in ("GET", "DELETE"):
        response = api.request(method, address.format(job_id))
        assert (response.status_code, response.json()["title"]) == (404, "Not Found")
    assert first_hive.fetch_rows("SELECT DISTINCT status FROM job") == [("READY",)]


@pytest.mark.parametrize("job_id", ["x", "0", "-1", str(2**63), "1.5"])
def test_an_invalid_job_id_is_rejected(api: TestClient, job_id: str) -> None:
    response = api.get(f"/jobs/dump_dna/{job_id}")
    assert (response.status_code, response.json()["error"].startswith("job_id: ")) == (422, True)


def test_a_missing_analysis_is_not_found(api: TestClient) -> None:
    assert api.get("/jobs/dump_nothing").json() == api.get("/jobs/dump_nothing/1").json()
    assert api.get("/jobs/dump_nothing").status_code == 404


@contextmanager
def renamed_column(hive: PracticeHive, table: str, column: str) -> Iterator[None]:
    """Rename a column of the hive, which the tests of this package share."""
    hive.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO elsewhere")
    try:
        yield
    finally:
        hive.execute(f"ALTER TABLE {table} RENAME COLUMN elsewhere TO {column}")


def test_jobs_are_listed_whatever_the_columns_of_the_result_table(
    api: TestClient, first_hive: PracticeHive
) -> None:
    job_id = submit_event(api)
    first_hive.run_jobs()
    with renamed_column(first_hive, "result", "output"):
        responses = [api.get(f"/jobs/dump_dna{path}") for path in ("", f"/{job_id}")]
    for response in responses:
        assert response.status_code == 200
        (job,) = response.json() if isinstance(response.json(), list) else [response.json()]
        assert (job["status"], job["output"]) == ("complete", None)


def test_a_hive_that_rejects_the_request_returns_502_with_the_reason(
    api: TestClient, first_hive: PracticeHive
) -> None:
    with renamed_column(first_hive, "job", "when_completed"):
        responses = [
            api.request(method, f"/jobs/dump_dna{path}")
            for method, path in (("GET", ""), ("GET", "/1"), ("DELETE", "/1"))
        ]
    for response in responses:
        assert response.status_code == 502
        assert "Retry-After" not in response.headers
        assert f"hive '{first_hive.conn_id}' rejected the request: " in response.json()["detail"]
        assert "when_completed" in response.json()["detail"]


def test_an_unavailable_hive_returns_503_without_its_address(
    api: TestClient, first_hive: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        f"AIRFLOW_CONN_{first_hive.conn_id.upper()}", "mysql://some_user:secret@127.0.0.1:1/hive"
    )
    for response in (api.get("/jobs/dump_dna"), api.get("/jobs/dump_dna/1"), api.delete("/jobs/dump_dna/1")):
        assert response.status_code == 503
        assert response.json()["error"] == f"hive '{first_hive.conn_id}' does not answer now"


def test_event_types_and_processes_are_listed(api: TestClient) -> None:
    assert api.get("/events").json() == ["half_wrong", "new_assembly", "new_genebuild", "nothing"]
    assert api.get("/processes/").json() == ["dump_dna", "dump_nothing", "dump_other", "dump_peptide"]


def test_an_event_is_shown_as_stored_in_the_ledger(api: TestClient) -> None:
    submitted = api.post(
        "/jobs", json={"type": "new_assembly", "genome": "homo_sapiens", "comment": "x"}
    ).json()
    event = api.get(f"/events/{submitted['id']}/").json()
    assert (event["event"], event["run_id"], event["url"]) == (
        submitted["event"],
        submitted["run_id"],
        submitted["url"],
    )
    assert (event["state"], event["is_finished"]) == ("waiting", False)
    assert [process["process"] for process in event["processes"]] == ["dump_dna", "dump_peptide"]
    missing = api.get("/events/4711")
    expected = "event 4711: the ledger has no such event"
    assert (missing.status_code, missing.json()["error"]) == (404, expected)


def test_a_list_of_jobs_includes_invalid_results(api: TestClient, first_hive: PracticeHive) -> None:
    job_id = submit_event(api)
    first_hive.complete_jobs("job_id = :id", id=job_id)
    output = '{"s": "\\ud83d", "n": NaN}'
    first_hive.execute("INSERT INTO result (job_id, output) VALUES (:id, :odd)", id=job_id, odd=output)
    other_id = first_hive.add_job(input_id='{"event" => {"x" => "\\x{d800}"}}', status="READY")
    jobs = {job["id"]: job for job in api.get("/jobs/dump_dna").json()}
    assert jobs[job_id]["output"]["s"] == "?"
    assert jobs[other_id]["input"] == {"event": {"x": "?"}}
