"""Retry and stop of events over HTTP, on a running Airflow."""

from __future__ import annotations

from typing import Any

from tests.support.system import System
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


def load_process(system: System, event_id: int) -> dict[str, Any]:
    """Return the only process of an event; its run may have events of other tests."""
    (process,) = system.api("GET", f"/events/{event_id}").json()["processes"]
    return dict(process)


def test_a_retry_runs_the_failed_jobs_of_its_event_again(system: System, genome: str) -> None:
    event_id = submit(system, practice_event(genome, "new_genebuild", fail_until_reset="child"))
    wait_for_state(system, event_id, "failed")
    job_id = load_process(system, event_id)["job"]
    assert act(system, f"/events/{event_id}/retry")["applied"] == 1
    wait_for_state(system, event_id, "complete")
    assert load_process(system, event_id)["job"] == job_id
    system.wait(lambda: system.list_routing_keys(genome) == ["report.fatal", "report.info"])
    assert "retry_requested" in {step(report) for report in system.all_reports(genome)}
    run_id = system.api("GET", f"/events/{event_id}").json()["run_id"]
    assert system.runs.load_tasks(run_id)["dump_peptide.wait"]["try_number"] >= 2


def test_a_process_runs_again_as_a_new_job(system: System, genome: str) -> None:
    event_id = submit(system, practice_event(genome, "new_genebuild"))
    wait_for_state(system, event_id, "complete")
    job_id = load_process(system, event_id)["job"]
    act(system, f"/events/{event_id}/retry", process="dump_peptide", mode="process")
    has_new_job = lambda: load_process(system, event_id)["job"] not in (None, job_id)  # noqa: E731
    system.wait(has_new_job, lambda: "no new job")
    wait_for_state(system, event_id, "complete")


def test_an_event_is_repeated(system: System, genome: str) -> None:
    event_id = submit(system, practice_event(genome, "new_genebuild"))
    wait_for_state(system, event_id, "complete")
    (item,) = act(system, "/retry", ids=[event_id], mode="event")["items"]
    wait_for_state(system, item["new_event"], "complete")


def test_a_stop_stops_the_jobs(system: System, genome: str) -> None:
    event_id = submit(system, practice_event(genome, "idle"))
    wait_for_state(system, event_id, "waiting")
    assert act(system, "/stop", genome=genome)["applied"] == 1
    wait_for_state(system, event_id, "failed")
    assert load_process(system, event_id)["state"] == "stopped"
