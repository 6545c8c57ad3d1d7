"""Retry and stop events, one by one and by a filter."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import update

from event_hooks.exceptions import EventHooksError
from event_hooks.hive.hook import HiveHook
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.records import ProcessState
from event_hooks.ledger.tables import event_process
from tests.integration.api.test_events import submit
from tests.integration.hive.conftest import wait_until
from tests.integration.hives import PracticeHive

ASSEMBLY = {"type": "new_assembly", "genome": "homo_sapiens"}


def post(api: TestClient, path: str, **body: Any) -> Any:
    """Send a request, and return its response."""
    response = api.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def set_state(ledger: Ledger, state: str, *event_ids: int) -> None:
    """Set the state of all processes of events, as their waits do."""
    statement = update(event_process).where(event_process.c.event_id.in_(event_ids))
    with ledger.transaction() as connection:
        connection.execute(statement.values(state=state, attempt="try1", error="it failed"))


def load_processes(api: TestClient, event_id: int) -> dict[str, dict[str, Any]]:
    processes = api.get(f"/events/{event_id}").json()["processes"]
    return {process["process"]: process for process in processes}


def submit_with_jobs(api: TestClient, *events: dict[str, Any]) -> list[int]:
    """Submit events, and wait until the ledger has their jobs."""
    event_ids = submit(api, *events)
    has_jobs = lambda event_id: all(row["job"] for row in load_processes(api, event_id).values())  # noqa: E731
    wait_until(lambda: has_jobs(event_ids[0]) and has_jobs(event_ids[-1]))  # stored in one transaction
    return event_ids


def test_a_retry_of_an_event_clears_the_tasks_of_its_failed_processes(
    api: TestClient, ledger: Ledger, cleared: list[dict[str, set[str]]]
) -> None:
    (event_id,) = submit_with_jobs(api, ASSEMBLY)
    set_state(ledger, ProcessState.FAILED, event_id)
    run_id = api.get(f"/events/{event_id}").json()["run_id"]
    result = post(api, f"/events/{event_id}/retry", process="dump_dna")
    assert (result["events"], result["applied"], result["is_dry_run"]) == (1, 1, False)
    assert result["items"] == [
        {
            "event": event_id,
            **ASSEMBLY,
            "process": "dump_dna",
            "state": "failed",
            "is_applied": True,
            "reason": None,
            "new_event": None,
        }
    ]
    assert cleared == [{run_id: {"dump_dna.wait", "report"}}]
    states = {name: process["state"] for name, process in load_processes(api, event_id).items()}
    assert states == {"dump_dna": "submitted", "dump_peptide": "failed"}
    repeated = post(api, f"/events/{event_id}/retry", process="dump_dna")
    assert (repeated["applied"], repeated["items"][0]["reason"]) == (0, "it is unfinished")
    assert len(cleared) == 1


def test_a_retry_is_recorded_if_the_clear_fails_and_the_clear_is_repeated(
    api: TestClient,
    app: FastAPI,
    ledger: Ledger,
    cleared: list[dict[str, set[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (event_id,) = submit_with_jobs(api, ASSEMBLY)
    set_state(ledger, ProcessState.FAILED, event_id)
    with monkeypatch.context() as patch:
        patch.setattr(app.state.actions, "_clear_tasks", lambda _: 1 / 0)
        result = post(api, f"/events/{event_id}/retry")
    assert result["applied"] == 2
    assert result["problems"] == ["Airflow has not cleared the tasks yet; the API server retries"]
    assert cleared == []
    app.state.actions.clear_requested_tasks()
    app.state.actions.clear_requested_tasks()
    (tasks,) = (tasks for run in cleared for tasks in run.values())
    assert tasks == {"dump_dna.wait", "dump_peptide.wait", "report"}


def test_a_retry_of_1000_events_takes_one_clear_for_each_200_runs(
    api: TestClient, ledger: Ledger, cleared: list[dict[str, set[str]]]
) -> None:
    event_ids = submit(api, *({"type": "new_assembly", "genome": f"g{i}"} for i in range(1000)))
    set_state(ledger, ProcessState.FAILED, *event_ids)
    assert api.post("/retry", json={"state": "failed"}).json()["detail"] == (
        "force: expected at most 100 events, and more match: select fewer, or set force to true"
    )
    dry = post(api, "/retry", state="failed", force=True, dry_run=True)
    assert (dry["events"], dry["applied"], dry["is_dry_run"]) == (1000, 2000, True)
    assert cleared == []
    result = post(api, "/retry", state="failed", force=True)
    assert (result["events"], result["applied"]) == (1000, 2000)
    assert len(cleared) == 1


def test_a_stop_stops_the_jobs_that_have_not_started(
    api: TestClient, ledger: Ledger, first_hive: PracticeHive
) -> None:
    first, second = submit_with_jobs(api, ASSEMBLY, {**ASSEMBLY, "genome": "mus_musculus"})
    result = post(api, f"/events/{first}/stop")
    assert (result["applied"], result["problems"]) == (2, [])
    rows = first_hive.fetch_rows("SELECT status, COUNT(*) FROM job GROUP BY status ORDER BY 1")
    assert sorted((str(status), count) for status, count in rows) == [("DONE", 2), ("READY", 2)]
    processes = load_processes(api, first)
    assert all(process["stop_requested_at"] for process in processes.values())
    assert not any(process["stop_requested_at"] for process in load_processes(api, second).values())
    repeated = post(api, f"/events/{first}/stop")
    assert {item["reason"] for item in repeated["items"]} == {"its stop is requested already"}


def test_a_stop_of_1000_events_takes_one_transaction_of_their_hive(
    api: TestClient, first_hive: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    stop_jobs = HiveHook.stop_jobs

    def count(hook: HiveHook, jobs: dict[int, str | None], *arguments: Any) -> Any:
        calls.append(len(jobs))
        return stop_jobs(hook, jobs, *arguments)

    monkeypatch.setattr(HiveHook, "stop_jobs", count)
    submit_with_jobs(api, *({"type": "new_assembly", "genome": f"g{number}"} for number in range(1000)))
    result = post(api, "/stop", state="open", force=True)
    assert (result["events"], result["applied"], result["problems"]) == (1000, 2000, [])
    assert calls == [2000]
    assert first_hive.fetch_rows("SELECT status, COUNT(*) FROM job GROUP BY status") == [("DONE", 2000)]


def test_a_filter_does_not_retry_what_a_user_has_stopped(api: TestClient, ledger: Ledger) -> None:
    stopped, failed = submit_with_jobs(api, ASSEMBLY, {**ASSEMBLY, "genome": "mus_musculus"})
    set_state(ledger, ProcessState.STOPPED, stopped)
    set_state(ledger, ProcessState.FAILED, failed)
    items = post(api, "/retry", state="failed", process="dump_dna")["items"]
    assert [(item["event"], item["is_applied"]) for item in items] == [(stopped, False), (failed, True)]
    assert items[0]["reason"] == "a user stopped it: to retry it, name the id of its event"
    repeated = post(api, "/retry", state="failed", mode="event", dry_run=True)["items"]
    assert [item["is_applied"] for item in repeated if item["event"] == stopped] == [False]
    assert post(api, "/retry", ids=[stopped], process="dump_dna")["applied"] == 1


def test_a_hive_that_does_not_answer_ends_the_poll_of_the_stops_with_its_error(
    api: TestClient,
    app: FastAPI,
    first_hive: PracticeHive,
    other_hive: PracticeHive,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The poller logs the first error only, and waits longer; the other hive is not affected."""
    (event_id,) = submit_with_jobs(api, {"type": "new_genebuild", "genome": "g"})
    with monkeypatch.context() as patch:
        for hive in (first_hive, other_hive):
            patch.delenv(f"AIRFLOW_CONN_{hive.conn_id.upper()}")
        assert len(post(api, f"/events/{event_id}/stop")["problems"]) == 2
    monkeypatch.delenv(f"AIRFLOW_CONN_{first_hive.conn_id.upper()}")
    with pytest.raises(EventHooksError, match=first_hive.conn_id):
        api.portal.call(app.state.actions.stop_requested_jobs)
    assert other_hive.fetch_rows("SELECT status FROM job") == [("DONE",)]


def test_jobs_that_a_running_job_creates_after_a_stop_are_stopped(
    api: TestClient, app: FastAPI, first_hive: PracticeHive
) -> None:
    (event_id,) = submit_with_jobs(api, ASSEMBLY)
    job_id = load_processes(api, event_id)["dump_dna"]["job"]
    first_hive.execute(f"UPDATE job SET status = 'RUN' WHERE job_id = {job_id}")
    post(api, f"/events/{event_id}/stop", process="dump_dna")
    child = first_hive.add_job(prev_job_id=job_id, status="READY")
    api.portal.call(app.state.actions.stop_requested_jobs)
    assert first_hive.fetch_rows(f"SELECT status FROM job WHERE job_id = {child}") == [("DONE",)]


def test_a_stop_by_a_filter_selects_genomes_by_a_pattern(api: TestClient, first_hive: PracticeHive) -> None:
    ids = submit_with_jobs(
        api,
        *({**ASSEMBLY, "genome": name} for name in ("homo_sapiens", "homo_erectus", "homoXsapiens", "mus")),
    )
    result = post(api, "/stop", state="open", genome="homo_*", process="dump_dna")
    assert [item["event"] for item in result["items"]] == ids[:2]
    assert {item["process"] for item in result["items"]} == {"dump_dna"}
    assert first_hive.fetch_rows("SELECT COUNT(*) FROM job WHERE status = 'DONE'") == [(2,)]
    exact = post(api, "/stop", genome="homo", dry_run=True)
    assert exact["events"] == 0


def test_an_unreachable_hive_is_a_problem_and_its_jobs_are_stopped_later(
    api: TestClient, first_hive: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    (event_id,) = submit_with_jobs(api, ASSEMBLY)
    monkeypatch.delenv(f"AIRFLOW_CONN_{first_hive.conn_id.upper()}")
    result = post(api, f"/events/{event_id}/stop")
    assert result["applied"] == 2
    assert first_hive.conn_id in result["problems"][0]


def test_an_event_is_repeated_as_a_new_event_that_follows_from_it(
    api: TestClient, ledger: Ledger, started: list[str]
) -> None:
    (event_id,) = submit(api, {**ASSEMBLY, "event_id": "42", "comment": "x"})
    unfinished = post(api, f"/events/{event_id}/retry", mode="event")
    assert (unfinished["applied"], unfinished["items"][0]["reason"]) == (0, "it is unfinished")
    set_state(ledger, ProcessState.FAILED, event_id)
    first = post(api, f"/events/{event_id}/retry", mode="event")["items"][0]
    assert (first["is_applied"], first["process"]) == (True, None)
    new = api.get(f"/events/{first['new_event']}").json()
    assert new["event"] == {**ASSEMBLY, "event_id": "42#2", "comment": "x"}
    assert (new["source"], len(new["processes"])) == ("retry", 2)
    again = post(api, f"/events/{event_id}/retry", mode="event")["items"][0]
    assert again["reason"] == f"event {first['new_event']} repeats it, and is unfinished"
    set_state(ledger, ProcessState.COMPLETE, first["new_event"])
    third = post(api, f"/events/{first['new_event']}/retry", mode="event")["items"][0]
    assert api.get(f"/events/{third['new_event']}").json()["event"]["event_id"] == "42#3"
    page = api.get(f"/board/events/{event_id}", headers={"Accept": "text/html"}).text
    assert all(f"/board/events/{item['new_event']}" in page for item in (first, third))


def test_an_event_without_an_id_is_repeated(api: TestClient, ledger: Ledger) -> None:
    first, second = submit(api, ASSEMBLY, ASSEMBLY)
    set_state(ledger, ProcessState.FAILED, first, second)
    items = post(api, "/retry", ids=[first, second], mode="event")["items"]
    payloads = [api.get(f"/events/{item['new_event']}").json()["event"] for item in items]
    assert payloads == [{**ASSEMBLY, "event_id": f"event-{event_id}#2"} for event_id in (first, second)]


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"),
    [
        ("/retry", {}, 422, "body: expected ids, state, type, genome, since or until"),
        ("/retry", {"ids": [1], "state": "failed"}, 422, "ids: expected no state, type, genome"),
        ("/retry", {"ids": [4711]}, 404, "event 4711: the ledger has no such event"),
        ("/retry", [], 422, "body: expected an object"),
        ("/events/4711/stop", "x", 422, "body: expected an object"),
        ("/retry", {"genome": "a\0b"}, 422, "genome: expected text without the character NUL"),
        ("/stop", {"type": "\0"}, 422, "type: expected text without the character NUL"),
        ("/stop", {"ids": [1], "process": "\0"}, 422, "process: expected text without the character NUL"),
        ("/retry", {"ids": ["x"]}, 422, "ids.0: Input should be a valid integer"),
        ("/retry", {"state": "failed", "force": "yes"}, 422, "force: Input should be a valid boolean"),
        ("/retry", {"state": "lost"}, 422, "state: Input should be 'open', 'failed' or 'complete'"),
        (
            "/retry",
            {"since": "2026-11-28T20:00:00"},
            422,
            "since: expected a time in ISO 8601 with a time zone",
        ),
        ("/retry", {"ids": [1], "mode": "INIT_PIPELINE"}, 422, "mode: Input should be 'failed_jobs'"),
        ("/stop", {"ids": [1], "mode": "process"}, 422, "mode: Extra inputs are not permitted"),
        ("/events/4711/retry", {}, 404, "event 4711: the ledger has no such event"),
    ],
)
def test_an_invalid_request_names_its_field(
    api: TestClient, path: str, body: Any, status: int, detail: str
) -> None:
    response = api.post(path, json=body)
    assert (response.status_code, response.json()["detail"][: len(detail)]) == (status, detail)


def test_an_unknown_process_and_a_process_with_the_mode_event_are_rejected(api: TestClient) -> None:
    (event_id,) = submit(api, ASSEMBLY)
    unknown = api.post(f"/events/{event_id}/retry", json={"process": "dump_rna"})
    expected = "process: expected one of dump_dna, dump_peptide, not 'dump_rna'"
    assert (unknown.status_code, unknown.json()["detail"]) == (404, expected)
    unselected = api.post("/stop", json={"ids": [event_id], "process": "dump_rna"})
    assert (unselected.status_code, unselected.json()["detail"]) == (404, expected)
    both = api.post(f"/events/{event_id}/retry", json={"process": "dump_dna", "mode": "event"})
    assert (both.status_code, both.json()["detail"]) == (
        422,
        "process: expected no process with the mode event",
    )
