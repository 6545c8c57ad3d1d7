"""Retry and stop of events over HTTP, on a running Airflow."""

from __future__ import annotations

from typing import Any

from tests.support.system import WAIT_SECONDS, System
from tests.system.events import practice_event, step


def submit(system: System, event: dict[str, Any]) -> int:
    """Submit an event, and return its id."""
    return int(system.api("POST", "/jobs", json=event).json()["id"])


def load_state(system: System, event_id: int) -> str:
    return str(system.api("GET", f"/events/{event_id}").json()["state"])


def wait_for_state(system: System, event_id: int, state: str) -> None:
    load = lambda: load_state(system, event_id)  # noqa: E731
    system.wait(lambda: load() == state, lambda: f"event {event_id} is {load()}, and not {state}")


def act(system: System, path: str, **body: Any) -> dict[str, Any]:
    """Retry or stop, and return the response."""
    response = system.api("POST", path, json=body)
    assert response.ok, response.text
    return dict(response.json())


def test_a_retry_runs_the_failed_jobs_of_its_event_again(system: System, genome: str) -> None:
    event_id = submit(system, practice_event(genome, "new_genebuild", fail_until_reset="child"))
    wait_for_state(system, event_id, "failed")
    run_id = system.api("GET", f"/events/{event_id}").json()["run_id"]
    before = system.jobs(run_id)
    assert act(system, f"/events/{event_id}/retry")["applied"] == 1
    wait_for_state(system, event_id, "complete")
    assert system.jobs(run_id) == before
    assert system.runs.wait_finished(run_id, WAIT_SECONDS) == "success"
    assert system.list_routing_keys(genome) == ["report.fatal", "report.info"]
    assert "retry_requested" in {step(report) for report in system.all_reports(genome)}
    assert "Cleared; reset job" in system.read_task_log(run_id, "dump_peptide.wait", 2)


def test_a_process_runs_again_as_a_new_job(system: System, genome: str) -> None:
    event_id = submit(system, practice_event(genome, "new_genebuild"))
    wait_for_state(system, event_id, "complete")
    run_id = system.api("GET", f"/events/{event_id}").json()["run_id"]
    assert system.runs.wait_finished(run_id, WAIT_SECONDS) == "success"
    (process,) = system.api("GET", f"/events/{event_id}").json()["processes"]
    act(system, f"/events/{event_id}/retry", process="dump_peptide", mode="process")
    system.wait(lambda: len(system.jobs(run_id)) == 2, lambda: "no second job")
    wait_for_state(system, event_id, "complete")
    assert system.runs.wait_finished(run_id, WAIT_SECONDS) == "success"
    (again,) = system.api("GET", f"/events/{event_id}").json()["processes"]
    assert again["job"] != process["job"]


def test_an_event_is_repeated(system: System, genome: str) -> None:
    event_id = submit(system, practice_event(genome, "new_genebuild"))
    wait_for_state(system, event_id, "complete")
    (item,) = act(system, "/retry", ids=[event_id], mode="event")["items"]
    wait_for_state(system, item["new_event"], "complete")


def test_a_stop_stops_the_jobs_and_ends_the_run_as_failed(system: System, genome: str) -> None:
    event_id = submit(system, practice_event(genome, "idle"))
    wait_for_state(system, event_id, "waiting")
    run_id = system.api("GET", f"/events/{event_id}").json()["run_id"]
    assert act(system, "/stop", genome=genome)["applied"] >= 1
    wait_for_state(system, event_id, "failed")
    states = {process["state"] for process in system.api("GET", f"/events/{event_id}").json()["processes"]}
    assert "stopped" in states
    assert system.runs.wait_finished(run_id, WAIT_SECONDS) == "failed"
