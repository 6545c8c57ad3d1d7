"""A DAG that is scheduled on the asset of a process, on the running Airflow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.support.system import WAIT_SECONDS, System
from tests.system.events import practice_event

EXAMPLE = "/dags/react_to_process"


@pytest.fixture(scope="module")
def example(system: System) -> Iterator[str]:
    """The path of the example DAG, which is active during these tests."""
    system.wait(lambda: system.runs.request("GET", EXAMPLE).ok, lambda: "the example DAG is not parsed")
    system.runs.request("PATCH", EXAMPLE, json={"is_paused": False}).raise_for_status()
    yield EXAMPLE
    system.runs.request("PATCH", EXAMPLE, json={"is_paused": True}).raise_for_status()


def list_asset_events(system: System, asset: str, run_id: str) -> list[dict[str, Any]]:
    """Return the asset events of a run, for one asset."""
    params = {"source_run_id": run_id, "limit": 1000, "name_pattern": asset}
    return list(system.runs.request("GET", "/assets/events", params=params).json()["asset_events"])


def list_handled(system: System) -> list[dict[str, Any]]:
    """Return the asset events that the successful runs of the example have handled."""
    handled: list[dict[str, Any]] = []
    path, params = f"{EXAMPLE}/dagRuns", {"state": "success", "limit": 1000}
    for run in system.runs.request("GET", path, params=params).json()["dag_runs"]:
        task = f"{path}/{run['dag_run_id']}/taskInstances/handle_dumps"
        handled += system.runs.request("GET", f"{task}/xcomEntries/return_value").json()["value"]
    return handled


def wait_for_handled(system: System, run_id: str, count: int) -> list[dict[str, Any]]:
    handled = lambda: [event for event in list_handled(system) if event["run_id"] == run_id]  # noqa: E731
    system.wait(lambda: len(handled()) >= count, handled)
    return handled()


def test_a_completed_process_starts_a_run_that_reads_genome_event_run_and_job(
    system: System, example: str
) -> None:
    genome = f"genome_{uuid4().hex[:12]}"
    event = practice_event(genome) | {"event_id": genome}
    response = system.api("POST", "/jobs", json=event)
    run_id, event_id = response.json()["run_id"], response.json()["id"]
    (dump,) = wait_for_handled(system, run_id, 1)
    ((job_id,),) = system.ledger_rows(
        "SELECT job_id FROM event_process WHERE event_id = :id AND process = 'dump_peptide'", id=event_id
    )
    expected = {
        "event": event_id,
        "event_id": genome,
        "genome": genome,
        "hive": "hive_test",
        "job_id": job_id,
        "process": "dump_peptide",
        "type": "new_assembly",
    }
    assert {name: dump[name] for name in expected} == expected
    assert dump["id"].startswith(f"{event_id}/dump_peptide/{job_id}/")
    (received,) = list_asset_events(system, "event/new_assembly", run_id)
    assert received["extra"]["id"] == str(event_id)


def test_the_completed_events_of_a_batch_are_asset_events_although_another_failed(
    system: System, example: str
) -> None:
    genome = f"genome_{uuid4().hex[:12]}"
    events = [practice_event(f"{genome}_{number}", "new_genebuild") for number in range(5)]
    events.append(practice_event(f"{genome}_fails", "new_genebuild", fail="child"))
    run_id, state = system.run({"events": events})
    assert state == "failed"
    handled = wait_for_handled(system, run_id, 5)
    assert Counter(dump["genome"] for dump in handled) == Counter(f"{genome}_{n}" for n in range(5))
    system.clear_task(run_id, "dump_peptide.wait")
    system.wait_for_task(run_id, "report", "failed")
    assert system.runs.wait_finished(run_id, WAIT_SECONDS) == "failed"
    assert len(list_asset_events(system, "process/dump_peptide", run_id)) == 5
    assert len(list_asset_events(system, "event/new_genebuild", run_id)) == 6


def test_the_asset_page_names_producer_and_consumer(system: System, example: str) -> None:
    params = {"name_pattern": "process/dump_peptide"}
    (asset,) = system.runs.request("GET", "/assets", params=params).json()["assets"]
    assert [task["task_id"] for task in asset["producing_tasks"]] == ["dump_peptide.wait"]
    assert [dag["dag_id"] for dag in asset["scheduled_dags"]] == ["react_to_process"]
