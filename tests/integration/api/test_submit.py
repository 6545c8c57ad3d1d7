"""Submitting events over HTTP."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi import FastAPI
from fastapi.testclient import TestClient

from event_hooks.api import run_starter
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events, load_run_events
from event_hooks.ledger.processes import store_plan
from event_hooks.ledger.records import NewEvent, event_key
from event_hooks.runtime.api_server import get_user
from tests.integration.hives import PracticeHive

EVENT = {"type": "new_assembly", "genome": "homo_sapiens", "event_id": "42"}


def list_ready_jobs(hive: PracticeHive) -> list[int]:
    """Return the ids of the READY jobs, which a beekeeper would run."""
    return [
        job_id
        for (job_id,) in hive.fetch_rows("SELECT job_id FROM job WHERE status = 'READY' ORDER BY job_id")
    ]


def list_job_ids(event: dict[str, Any]) -> list[int | None]:
    """Return the job ids of an accepted event."""
    return [process["job"] for process in event["processes"]]


def test_a_new_event_returns_its_ready_jobs(api: TestClient, first_hive: PracticeHive) -> None:
    response = api.post("/jobs", json=EVENT)
    assert response.status_code == 201
    assert response.json()["event"] == EVENT
    assert sorted(list_job_ids(response.json())) == list_ready_jobs(first_hive)
    assert response.json()["job_id"] == response.json()["processes"][0]["job"]
    assert first_hive.fetch_stats() == ("LOADING", 1, 1)


def test_a_duplicate_event_returns_the_same_job_ids(api: TestClient, first_hive: PracticeHive) -> None:
    first = api.post("/jobs", json=EVENT)
    ids = list_job_ids(first.json())
    duplicate = api.post("/jobs/", json={**EVENT, "event_id": "42"})
    assert (duplicate.status_code, list_job_ids(duplicate.json())) == (201, ids)
    assert first.headers["Location"] == duplicate.headers["Location"] == f"/events/{first.json()['id']}"
    assert "Idempotency-Replayed" not in first.headers
    assert duplicate.headers["Idempotency-Replayed"] == "true"
    assert [response.json()["is_replayed"] for response in (first, duplicate)] == [False, True]
    assert list_ready_jobs(first_hive) == sorted(ids)


def test_concurrent_duplicates_are_one_event(api: TestClient, first_hive: PracticeHive) -> None:
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: api.post("/jobs", json=EVENT), range(8)))
    assert {response.status_code for response in responses} == {201}
    assert sum("Idempotency-Replayed" not in response.headers for response in responses) == 1
    assert len({str(list_job_ids(response.json())) for response in responses}) == 1
    assert len(list_ready_jobs(first_hive)) == 2


def test_a_key_with_another_body_is_rejected(api: TestClient, first_hive: PracticeHive) -> None:
    api.post("/jobs", json=EVENT)
    response = api.post("/jobs", json={**EVENT, "genome": "mus_musculus"})
    assert response.status_code == 409
    assert "event_id" in response.json()["error"]
    assert len(list_ready_jobs(first_hive)) == 2


def test_only_bodies_with_equal_json_are_duplicates(api: TestClient) -> None:
    api.post("/jobs", json={"type": "nothing", "event_id": 42, "x": 1})
    for duplicate in ({"event_id": "42", "x": 1}, {"x": 1, "event_id": 42, "genome": None}):
        assert api.post("/jobs", json={"type": "nothing", **duplicate}).status_code != 409
    for value in (True, 1.0, "1", None):
        assert api.post("/jobs", json={"type": "nothing", "event_id": 42, "x": value}).status_code == 409


def test_a_duplicate_of_an_unplanned_event_returns_202(api: TestClient, ledger: Ledger) -> None:
    accept_events(
        ledger,
        [
            NewEvent(
                event_key("nothing", "43"), "nothing", None, {"type": "nothing", "event_id": "43"}, "rest"
            )
        ],
        "r",
    )
    assert api.post("/jobs", json={"type": "nothing", "event_id": "43"}).status_code == 202
    store_plan(ledger, "r", ())
    assert api.post("/jobs", json={"type": "nothing", "event_id": "43"}).status_code == 201


def test_an_idempotency_key_identifies_a_request(api: TestClient, first_hive: PracticeHive) -> None:
    headers, batch = {"Idempotency-Key": "once"}, [{"type": "new_assembly", "genome": name} for name in "ab"]
    ids = [list_job_ids(event) for event in api.post("/jobs", json=batch, headers=headers).json()]
    duplicate = api.post("/jobs", json=batch, headers=headers)
    assert (duplicate.status_code, [list_job_ids(event) for event in duplicate.json()]) == (201, ids)
    assert duplicate.headers["Idempotency-Replayed"] == "true"
    for other in (batch[:1], [*batch, batch[0]], batch[0], batch[::-1]):
        assert api.post("/jobs", json=other, headers=headers).status_code == 409
    assert len(list_ready_jobs(first_hive)) == 4


def test_each_user_has_idempotency_keys_of_its_own(app: FastAPI, api: TestClient) -> None:
    event, headers = {"type": "nothing"}, {"Idempotency-Key": "once"}
    first = api.post("/jobs", json=event, headers=headers).json()["id"]
    other = SimpleAuthManagerUser(username="other_user", role="admin")
    with patch.dict(app.dependency_overrides, {get_user: lambda: other}):
        response = api.post("/jobs", json={**event, "genome": "g"}, headers=headers)
        assert (response.status_code, response.json()["id"] == first) == (201, False)
        planned = api.post("/plan", json={**event, "genome": "g"}, headers=headers).json()
    assert planned["events"][0]["others"] == []
    assert api.post("/jobs", json=event, headers=headers).json()["id"] == first


def test_an_idempotency_key_with_an_event_id_is_rejected(api: TestClient) -> None:
    response = api.post("/jobs", json=EVENT, headers={"Idempotency-Key": "once"})
    assert response.status_code == 422
    assert response.json()["error"].startswith("event_id: ")


def test_the_response_to_a_batch_has_one_item_per_event(api: TestClient, first_hive: PracticeHive) -> None:
    api.post("/jobs", json=EVENT)
    response = api.post(
        "/jobs", json=[EVENT, {"type": "nothing"}, {"type": "new_assembly"}, {"type": "new_assembly"}]
    )
    assert response.status_code == 201
    assert [event["status_code"] for event in response.json()] == [201, 201, 201, 201]
    assert [event["is_replayed"] for event in response.json()] == [True, False, False, False]
    assert "Idempotency-Replayed" not in response.headers
    assert [len(event["processes"]) for event in response.json()] == [2, 0, 2, 2]
    assert len(list_ready_jobs(first_hive)) == 6


def test_a_batch_with_a_conflicting_key_writes_nothing(api: TestClient, first_hive: PracticeHive) -> None:
    api.post("/jobs", json=EVENT)
    batch = [{"type": "new_assembly", "event_id": "43"}, {**EVENT, "genome": "mus_musculus"}]
    assert api.post("/jobs", json=batch).status_code == 409
    assert api.post("/jobs", json=batch[0]).status_code == 201


@pytest.mark.alone
def test_events_within_the_window_share_a_run(
    api: TestClient, ledger: Ledger, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_starter, "WINDOW_SECONDS", 1.0)
    with ThreadPoolExecutor(8) as pool:
        responses = list(
            pool.map(lambda number: api.post("/jobs", json={**EVENT, "event_id": number}), range(10))
        )
    (run_id,) = {response.json()["run_id"] for response in responses}
    assert [event.position for event in load_run_events(ledger, run_id)] == list(range(10))
    wait_until(lambda: started == [run_id])
    later = api.post("/jobs", json={**EVENT, "event_id": "later"}).json()["run_id"]
    assert later != run_id


@pytest.mark.alone
def test_runs_of_a_burst_collect_events_longer(api: TestClient, started: list[str]) -> None:
    first_run = api.post("/jobs", json={"type": "nothing"}).json()["run_id"]
    wait_until(lambda: started == [first_run])
    second = [api.post("/jobs", json={"type": "nothing"}).json()["run_id"]]
    time.sleep(1.3 * run_starter.WINDOW_SECONDS)
    second.append(api.post("/jobs", json={"type": "nothing"}).json()["run_id"])
    assert len({first_run, *second}) == 2
    wait_until(lambda: started == [first_run, second[0]])
    time.sleep(1.3 * run_starter.BURST_SECONDS)  # the burst has ended
    third = api.post("/jobs", json={"type": "nothing"}).json()["run_id"]
    wait_until(lambda: started[2:] == [third])


@pytest.mark.alone
def test_events_beyond_a_full_run_start_another_run(
    api: TestClient, ledger: Ledger, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_starter, "MAX_EVENTS_PER_RUN", 5)
    runs = [api.post("/jobs", json={"type": "nothing"}).json()["run_id"] for _ in range(5)]
    large = api.post("/jobs", json=[{"type": "nothing"}] * 12).json()
    assert len(set(runs)) == 1
    assert {event["run_id"] for event in large}.isdisjoint(runs)
    assert [stored.position for stored in load_run_events(ledger, large[0]["run_id"])] == list(range(12))
    wait_until(lambda: started == [runs[0], large[0]["run_id"]])


@pytest.mark.alone
def test_a_run_has_at_most_max_events(
    api: TestClient, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__MAX_EVENTS", "3")
    runs = [api.post("/jobs", json={"type": "nothing"}).json()["run_id"] for _ in range(4)]
    assert len(set(runs[:3])) == 1
    assert runs[3] != runs[0]
    wait_until(lambda: started[:1] == [runs[0]])


def test_a_changed_address_of_a_hive_is_used(
    api: TestClient, first_hive: PracticeHive, other_hive: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.post("/jobs", json={"type": "new_genebuild"})
    monkeypatch.setenv(f"AIRFLOW_CONN_{other_hive.conn_id.upper()}", first_hive.url)
    event = api.post("/jobs", json={"type": "new_genebuild"}).json()
    assert set(list_job_ids(event)) <= set(list_ready_jobs(first_hive))
    assert len(list_ready_jobs(other_hive)) == 1


def test_a_run_gets_no_events_after_a_failed_write(
    api: TestClient, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first_run = api.post("/jobs", json={"type": "nothing"}).json()["run_id"]
    with monkeypatch.context() as patched:
        patched.setattr(
            run_starter, "accept_requests", lambda *_: (_ for _ in ()).throw(RuntimeError("cut off"))
        )
        response = api.post("/jobs", json={"type": "nothing"})
    assert (response.status_code, "cut off" in response.text) == (500, False)
    assert api.post("/jobs", json={"type": "nothing"}).json()["run_id"] != first_run
    wait_until(lambda: started[:1] == [first_run])


def test_an_unavailable_hive_changes_the_response_to_202(
    api: TestClient, first_hive: PracticeHive, other_hive: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        f"AIRFLOW_CONN_{other_hive.conn_id.upper()}", "mysql://some_user:secret@127.0.0.1:1/hive"
    )
    event = {"type": "new_genebuild", "event_id": "1"}
    response = api.post("/jobs", json=event)
    assert response.status_code == 202
    dump_other, dump_peptide = response.json()["processes"]
    assert list_ready_jobs(first_hive) == [dump_peptide["job"]]
    assert (dump_other["job"], dump_other["message"]) == (
        None,
        f"hive '{other_hive.conn_id}' does not answer now",
    )
    assert "secret" not in response.text
    assert "127.0.0.1" not in response.text
    monkeypatch.setenv(f"AIRFLOW_CONN_{other_hive.conn_id.upper()}", other_hive.url)
    duplicate = api.post("/jobs", json=event)
    assert duplicate.status_code == 201
    assert list_job_ids(duplicate.json()) == [*list_ready_jobs(other_hive), *list_ready_jobs(first_hive)]


@pytest.mark.alone
def test_a_hive_that_hangs_does_not_delay_other_events(
    api: TestClient, first_hive: PracticeHive, other_hive: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__WRITE_THROUGH_TIMEOUT", "2")
    with other_hive.transaction() as blocking:
        blocking.exec_driver_sql("UPDATE analysis_stats SET ready_job_count = ready_job_count + 1")
        start = time.monotonic()
        slow = threading.Thread(target=api.post, args=["/jobs"], kwargs={"json": {"type": "new_genebuild"}})
        slow.start()
        quick = [measure_post_seconds(api, {"type": "new_assembly"}) for _ in range(5)]
        slow.join()
        assert max(quick) < 1.5  # a request to the hive that hangs takes two seconds
        assert time.monotonic() - start < 6
        second = api.post("/jobs", json={"type": "new_genebuild"})  # no second attempt while the hive hangs
        assert second.status_code == 202
        blocking.rollback()
    # The delayed submission succeeds; the run would find its job.
    wait_until(lambda: len(list_ready_jobs(other_hive)) >= 1)


def test_a_missing_analysis_does_not_affect_other_processes(
    api: TestClient, first_hive: PracticeHive
) -> None:
    response = api.post("/jobs", json={"type": "half_wrong"})
    dump_dna, nothing = response.json()["processes"]
    assert response.status_code == 202
    assert "no analysis 'nothing'" in nothing["message"]
    assert list_ready_jobs(first_hive) == [dump_dna["job"]]


def test_without_write_through_the_run_submits(
    api: TestClient, first_hive: PracticeHive, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__WRITE_THROUGH", "no")
    response = api.post("/jobs", json=EVENT)
    assert (response.status_code, list_job_ids(response.json()), list_ready_jobs(first_hive)) == (
        202,
        [None, None],
        [],
    )
    wait_until(lambda: started == [response.json()["run_id"]])


def test_an_unavailable_ledger_returns_503_and_nothing_is_written(
    api: TestClient, first_hive: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_EVENT_LEDGER", "postgres://some_user:secret@127.0.0.1:1/ledger")
    response = api.post("/jobs", json=EVENT)
    assert response.status_code == 503
    assert "secret" not in response.text
    assert "127.0.0.1" not in response.text
    assert list_ready_jobs(first_hive) == []


@pytest.mark.parametrize(
    ("body", "content_type", "status", "field"),
    [
        ("{}", "application/json", 422, "type"),
        ("null", "application/json", 422, "event"),
        ("[]", "application/json", 422, "events"),
        ('{"type": "unheard_of"}', "application/json", 404, "type"),
        ('[{"type": "nothing"}, {"type": "unheard_of"}]', "application/json", 404, "events[1].type"),
        ('{"type": "nothing", "genome": 7}', "application/json", 422, "genome"),
        ('{"events": [{"type": "nothing"}]}', "application/json", 422, "events"),
        ('{"type": "new_assembly", "x": "#expr(`id`)expr#"}', "application/json", 422, "x"),
        ('{"type": "new_assembly", "x": NaN}', "application/json", 400, "body"),
        ('{"type": "new_assembly", "x": ["a\\u0000b"]}', "application/json", 422, "x[0]"),
        ('{"type": "new_assembly", "x": {"y": 18446744073709551616}}', "application/json", 422, "x.y"),
        ('{"type": "new_assembly", "x": 1e16}', "application/json", 422, "x"),
        ('{"type": "new_assembly", "x": -0.0}', "application/json", 422, "x"),
        ('{"type": "nothing", "type": "new_assembly"}', "application/json", 400, "body"),
        ('{"type": "nothing", "x": [{"y": 1, "y": 1}]}', "application/json", 400, "body"),
        ('{"type": "nothing"}'.encode("utf-16").decode("latin1"), "application/json", 400, "body"),
        ("{", "application/json", 400, "body"),
        ("\xff", "application/json", 400, "body"),
        ("[" * 100_000, "application/json", 400, "body"),
        ('{"type": "nothing"}', "text/plain", 415, "Content-Type"),
        ('{"type": "nothing"}', "", 415, "Content-Type"),
        ('{"type": "nothing", "x": "' + 2**20 * "x" + '"}', "application/json", 413, "body"),
    ],
)
def test_invalid_input_is_rejected_with_its_field(
    api: TestClient, first_hive: PracticeHive, body: str, content_type: str, status: int, field: str
) -> None:
    response = api.post("/jobs", content=body.encode("latin1"), headers={"Content-Type": content_type})
    assert response.status_code == status
    assert response.json()["error"].startswith(f"{field}: ")
    assert list_ready_jobs(first_hive) == []


def test_changed_lookups_are_reloaded(api: TestClient, lookup_files: dict[str, Path]) -> None:
    assert api.post("/jobs", json={"type": "brand_new"}).status_code == 404
    text = lookup_files["event_lookup"].read_text()
    lookup_files["event_lookup"].write_text(text.replace("half_wrong", "brand_new"))
    assert "brand_new" in api.get("/events/").json()
    assert api.post("/jobs", json={"type": "brand_new"}).status_code == 202


def measure_post_seconds(api: TestClient, event: dict[str, Any]) -> float:
    """Return the seconds that posting an event takes."""
    start = time.monotonic()
    assert api.post("/jobs", json=event).status_code == 201
    return time.monotonic() - start


def wait_until(condition: Any) -> None:
    """Poll a condition until it is true, for at most 8 seconds."""
    deadline = time.monotonic() + 8
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
