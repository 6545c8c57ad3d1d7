"""Events that come in over HTTP."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from event_hooks.api import run_starter
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events, load_run_events
from event_hooks.ledger.processes import store_plan
from event_hooks.ledger.records import NewEvent, event_key
from tests.integration.hives import PracticeHive

EVENT = {"type": "new_assembly", "genome": "homo_sapiens", "event_id": "42"}


def ready_jobs(hive: PracticeHive) -> list[int]:
    """Give the ids of the jobs that a beekeeper would see."""
    return [
        job_id for (job_id,) in hive.rows("SELECT job_id FROM job WHERE status = 'READY' ORDER BY job_id")
    ]


def job_ids(answer: dict[str, Any]) -> list[int | None]:
    """Give the job ids of an answer."""
    return [one["job"] for one in answer["processes"]]


def test_a_new_event_is_answered_with_its_ready_jobs(api: TestClient, first: PracticeHive) -> None:
    answer = api.post("/jobs", json=EVENT)
    assert answer.status_code == 201
    assert answer.json()["event"] == EVENT
    assert sorted(job_ids(answer.json())) == ready_jobs(first)
    assert answer.json()["job_id"] == answer.json()["processes"][0]["job"]
    assert first.stats() == ("LOADING", 1, 1)


def test_the_same_event_again_has_the_same_ids(api: TestClient, first: PracticeHive) -> None:
    ids = job_ids(api.post("/jobs", json=EVENT).json())
    again = api.post("/jobs/", json={**EVENT, "event_id": "42"})
    assert (again.status_code, job_ids(again.json())) == (200, ids)
    assert ready_jobs(first) == sorted(ids)


def test_the_same_at_once_is_one_event(api: TestClient, first: PracticeHive) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.post("/jobs", json=EVENT), range(8)))
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert len({str(job_ids(answer.json())) for answer in answers}) == 1
    assert len(ready_jobs(first)) == 2


def test_a_key_with_another_body_is_refused(api: TestClient, first: PracticeHive) -> None:
    api.post("/jobs", json=EVENT)
    answer = api.post("/jobs", json={**EVENT, "genome": "mus_musculus"})
    assert answer.status_code == 409
    assert "event_id" in answer.json()["error"]
    assert len(ready_jobs(first)) == 2


def test_what_is_equal_for_json_is_the_same_and_nothing_else(api: TestClient) -> None:
    api.post("/jobs", json={"type": "nothing", "event_id": 42, "x": 1})
    for same in ({"event_id": "42", "x": 1}, {"x": 1, "event_id": 42, "genome": None}):
        assert api.post("/jobs", json={"type": "nothing", **same}).status_code != 409
    for x in (True, 1.0, "1", None):
        assert api.post("/jobs", json={"type": "nothing", "event_id": 42, "x": x}).status_code == 409


def test_an_event_that_another_run_is_about_to_plan_is_202(api: TestClient, ledger: Ledger) -> None:
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
    assert api.post("/jobs", json={"type": "nothing", "event_id": "43"}).status_code == 200


def test_an_idempotency_key_names_a_request(api: TestClient, first: PracticeHive) -> None:
    headers, batch = {"Idempotency-Key": "once"}, [{"type": "new_assembly", "genome": name} for name in "ab"]
    ids = [job_ids(one) for one in api.post("/jobs", json=batch, headers=headers).json()]
    again = api.post("/jobs", json=batch, headers=headers)
    assert (again.status_code, [job_ids(one) for one in again.json()]) == (200, ids)
    for other in (batch[:1], [*batch, batch[0]], batch[0], batch[::-1]):
        assert api.post("/jobs", json=other, headers=headers).status_code == 409
    assert len(ready_jobs(first)) == 4


def test_an_idempotency_key_beside_an_event_id_is_refused(api: TestClient) -> None:
    answer = api.post("/jobs", json=EVENT, headers={"Idempotency-Key": "once"})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("event_id: ")


def test_a_batch_is_one_answer_for_each(api: TestClient, first: PracticeHive) -> None:
    api.post("/jobs", json=EVENT)
    answer = api.post(
        "/jobs", json=[EVENT, {"type": "nothing"}, {"type": "new_assembly"}, {"type": "new_assembly"}]
    )
    assert answer.status_code == 201
    assert [one["status_code"] for one in answer.json()] == [200, 201, 201, 201]
    assert [len(one["processes"]) for one in answer.json()] == [2, 0, 2, 2]
    assert len(ready_jobs(first)) == 6


def test_a_batch_with_one_taken_key_writes_nothing(api: TestClient, first: PracticeHive) -> None:
    api.post("/jobs", json=EVENT)
    batch = [{"type": "new_assembly", "event_id": "43"}, {**EVENT, "genome": "mus_musculus"}]
    assert api.post("/jobs", json=batch).status_code == 409
    assert api.post("/jobs", json=batch[0]).status_code == 201


@pytest.mark.alone
def test_events_within_half_a_second_share_a_run(api: TestClient, ledger: Ledger, started: list[str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: api.post("/jobs", json={**EVENT, "event_id": n}), range(10)))
    (run_id,) = {answer.json()["run_id"] for answer in answers}
    assert [entry.position for entry in load_run_events(ledger, run_id)] == list(range(10))
    until(lambda: started == [run_id])
    later = api.post("/jobs", json={**EVENT, "event_id": "later"}).json()["run_id"]
    assert later != run_id


@pytest.mark.alone
def test_runs_of_a_burst_gather_longer(api: TestClient, started: list[str]) -> None:
    first_run = api.post("/jobs", json={"type": "nothing"}).json()["run_id"]
    until(lambda: started == [first_run])
    second = [api.post("/jobs", json={"type": "nothing"}).json()["run_id"]]
    time.sleep(1.3 * run_starter.WINDOW)
    second.append(api.post("/jobs", json={"type": "nothing"}).json()["run_id"])
    assert len({first_run, *second}) == 2
    until(lambda: started == [first_run, second[0]])
    time.sleep(1.3 * run_starter.WINDOW)  # quiet again
    third = api.post("/jobs", json={"type": "nothing"}).json()["run_id"]
    until(lambda: started[2:] == [third])


@pytest.mark.alone
def test_a_full_run_is_followed_by_the_next(
    api: TestClient, ledger: Ledger, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_starter, "FULL", 5)
    runs = [api.post("/jobs", json={"type": "nothing"}).json()["run_id"] for _ in range(5)]
    large = api.post("/jobs", json=[{"type": "nothing"}] * 12).json()
    assert len(set(runs)) == 1
    assert {one["run_id"] for one in large}.isdisjoint(runs)
    assert [entry.position for entry in load_run_events(ledger, large[0]["run_id"])] == list(range(12))
    until(lambda: started == [runs[0], large[0]["run_id"]])


@pytest.mark.alone
def test_a_run_has_no_more_events_than_a_run_may_have(
    api: TestClient, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__MAX_EVENTS", "3")
    runs = [api.post("/jobs", json={"type": "nothing"}).json()["run_id"] for _ in range(4)]
    assert len(set(runs[:3])) == 1
    assert runs[3] != runs[0]
    until(lambda: started[:1] == [runs[0]])


def test_a_hive_that_moves_is_followed(
    api: TestClient, first: PracticeHive, other: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.post("/jobs", json={"type": "new_genebuild"})
    monkeypatch.setenv(f"AIRFLOW_CONN_{other.conn_id.upper()}", first.url)
    answer = api.post("/jobs", json={"type": "new_genebuild"}).json()
    assert set(job_ids(answer)) <= set(ready_jobs(first))
    assert len(ready_jobs(other)) == 1


def test_a_run_whose_writing_failed_gets_no_more_events(
    api: TestClient, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first_run = api.post("/jobs", json={"type": "nothing"}).json()["run_id"]
    with monkeypatch.context() as patched:
        patched.setattr(
            run_starter, "accept_requests", lambda *_: (_ for _ in ()).throw(RuntimeError("cut off"))
        )
        answer = api.post("/jobs", json={"type": "nothing"})
    assert (answer.status_code, "cut off" in answer.text) == (500, False)
    assert api.post("/jobs", json={"type": "nothing"}).json()["run_id"] != first_run
    until(lambda: started[:1] == [first_run])


def test_a_hive_that_is_down_turns_the_answer_into_202(
    api: TestClient, first: PracticeHive, other: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{other.conn_id.upper()}", "mysql://somebody:secret@127.0.0.1:1/hive")
    event = {"type": "new_genebuild", "event_id": "1"}
    answer = api.post("/jobs", json=event)
    assert answer.status_code == 202
    dump_other, dump_peptide = answer.json()["processes"]
    assert ready_jobs(first) == [dump_peptide["job"]]
    assert (dump_other["job"], dump_other["message"]) == (None, f"hive '{other.conn_id}' does not answer now")
    assert "secret" not in answer.text
    assert "127.0.0.1" not in answer.text
    monkeypatch.setenv(f"AIRFLOW_CONN_{other.conn_id.upper()}", other.url)
    again = api.post("/jobs", json=event)
    assert again.status_code == 200
    assert job_ids(again.json()) == [*ready_jobs(other), *ready_jobs(first)]


@pytest.mark.alone
def test_a_hive_that_hangs_holds_up_nobody_else(
    api: TestClient, first: PracticeHive, other: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__WRITE_THROUGH_TIMEOUT", "2")
    with other.transaction() as blocking:
        blocking.exec_driver_sql("UPDATE analysis_stats SET ready_job_count = ready_job_count + 1")
        began = time.monotonic()
        slow = threading.Thread(target=api.post, args=["/jobs"], kwargs={"json": {"type": "new_genebuild"}})
        slow.start()
        quick = [seconds_of(api, {"type": "new_assembly"}) for _ in range(5)]
        slow.join()
        assert max(quick) < 1.5  # whoever waits for the other hive waits for two seconds
        assert time.monotonic() - began < 6
        hung = api.post("/jobs", json={"type": "new_genebuild"})  # not asked again while it hangs
        assert hung.status_code == 202
        blocking.rollback()
    until(lambda: len(ready_jobs(other)) >= 1)  # the one that hung comes through; the run would find it


def test_an_analysis_that_is_not_there_spoils_no_other(api: TestClient, first: PracticeHive) -> None:
    answer = api.post("/jobs", json={"type": "half_wrong"})
    dump_dna, nothing = answer.json()["processes"]
    assert answer.status_code == 202
    assert "no analysis 'nothing'" in nothing["message"]
    assert ready_jobs(first) == [dump_dna["job"]]


def test_without_write_through_the_run_submits(
    api: TestClient, first: PracticeHive, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__WRITE_THROUGH", "no")
    answer = api.post("/jobs", json=EVENT)
    assert (answer.status_code, job_ids(answer.json()), ready_jobs(first)) == (202, [None, None], [])
    until(lambda: started == [answer.json()["run_id"]])


def test_a_ledger_that_is_away_is_503_and_nothing_is_written(
    api: TestClient, first: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_EVENT_LEDGER", "postgres://somebody:secret@127.0.0.1:1/ledger")
    answer = api.post("/jobs", json=EVENT)
    assert answer.status_code == 503
    assert "secret" not in answer.text
    assert "127.0.0.1" not in answer.text
    assert ready_jobs(first) == []


@pytest.mark.parametrize(
    ("body", "kind", "status", "named"),
    [
        ("{}", "application/json", 422, "type"),
        ("null", "application/json", 422, "conf"),
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
        ("{", "application/json", 400, "body"),
        ("\xff", "application/json", 400, "body"),
        ("[" * 100_000, "application/json", 400, "body"),
        ('{"type": "nothing"}', "text/plain", 415, "Content-Type"),
        ('{"type": "nothing"}', "", 415, "Content-Type"),
        ('{"type": "nothing", "x": "' + 2**20 * "x" + '"}', "application/json", 413, "body"),
    ],
)
def test_bad_input_is_named(
    api: TestClient, first: PracticeHive, body: str, kind: str, status: int, named: str
) -> None:
    answer = api.post("/jobs", content=body.encode("latin1"), headers={"Content-Type": kind})
    assert answer.status_code == status
    assert answer.json()["error"].startswith(f"{named}: ")
    assert ready_jobs(first) == []


def test_lookups_are_read_again_when_they_change(api: TestClient, lookup_files: dict[str, Path]) -> None:
    assert api.post("/jobs", json={"type": "brand_new"}).status_code == 404
    text = lookup_files["event_lookup"].read_text()
    lookup_files["event_lookup"].write_text(text.replace("half_wrong", "brand_new"))
    assert "brand_new" in api.get("/events/").json()
    assert api.post("/jobs", json={"type": "brand_new"}).status_code == 202


def seconds_of(api: TestClient, event: dict[str, Any]) -> float:
    """Give how long it takes to post an event."""
    began = time.monotonic()
    assert api.post("/jobs", json=event).status_code == 201
    return time.monotonic() - began


def until(is_so: Any) -> None:
    """Wait for something, for a few seconds."""
    limit = time.monotonic() + 8
    while not is_so():
        assert time.monotonic() < limit
        time.sleep(0.02)
