"""Runs and task instances that a user deletes while their jobs are in the hive without a worker."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from tests.support.system import WAIT_SECONDS, System
from tests.system.events import facts, practice_event
from tests.system.test_marking import do_jobs
from tools.runs import DAG_PATH


def start_waiting(system: System, genome: str) -> str:
    """Start a run, wait until its trigger waits for the job, and make its event old for maintain_ledger."""
    run_id = system.start(practice_event(genome, "manual"))
    system.wait_for_trigger(run_id, "dump_manual.wait")
    statement = "UPDATE event SET received_at = received_at - interval '1 minute' WHERE genome = :genome"
    system.ledger.execute(text(statement), {"genome": genome})
    return run_id


def delete_run(system: System, run_id: str) -> None:
    """Delete a run; Airflow permits that only while the run is queued, which is a moment here."""
    path = f"{DAG_PATH}/dagRuns/{run_id}"

    def is_deleted() -> bool:
        answer = system.runs.request("PATCH", path, json={"state": "queued"})
        assert answer.ok, answer.text
        return system.runs.request("DELETE", path).status_code == 204

    system.wait(is_deleted, lambda: system.runs.request("GET", path).text)


def test_a_deleted_run_is_started_again_and_waits_for_the_same_job(system: System, genome: str) -> None:
    run_id = start_waiting(system, genome)
    before = system.jobs(run_id, "hive_manual")
    delete_run(system, run_id)
    system.run_maintenance()
    system.wait(lambda: system.runs.request("GET", f"{DAG_PATH}/dagRuns/{run_id}").ok)
    system.wait_for_trigger(run_id, "dump_manual.wait")
    assert system.jobs(run_id, "hive_manual") == before
    do_jobs(system)
    assert system.runs.wait_finished(run_id, WAIT_SECONDS) == "success"
    assert system.jobs(run_id, "hive_manual") == [(before[0][0], "DONE")]
    # As there is no beekeeper, there may be a report.warn as well
    assert [len(system.reports(genome, f"report.{key}")) for key in ("info", "fatal")] == [1, 0]


@pytest.mark.rounds  # it deletes the runs of all tests, which are then started again
def test_a_deleted_dag_is_created_again_and_waits_for_the_same_job(system: System, genome: str) -> None:
    run_id = start_waiting(system, genome)
    before = system.jobs(run_id, "hive_manual")
    system.parse_dag_files()  # caches the names of the files, which Airflow lists for existing DAGs only
    assert system.runs.request("DELETE", DAG_PATH).status_code == 204
    system.parse_dag_files()
    system.wait(lambda: system.runs.request("GET", DAG_PATH).ok)
    system.wait(lambda: maintain(system, run_id))
    system.wait_for_trigger(run_id, "dump_manual.wait")
    assert system.jobs(run_id, "hive_manual") == before
    do_jobs(system)
    assert system.runs.wait_finished(run_id, WAIT_SECONDS) == "success"
    assert system.jobs(run_id, "hive_manual") == [(before[0][0], "DONE")]


def maintain(system: System, run_id: str) -> bool:
    """Run the maintenance, and return whether the run exists."""
    system.run_maintenance()
    return bool(system.runs.request("GET", f"{DAG_PATH}/dagRuns/{run_id}").ok)


def test_a_deleted_wait_is_reported_as_fatal(system: System, genome: str) -> None:
    run_id = start_waiting(system, genome)
    path = f"{DAG_PATH}/dagRuns/{run_id}/taskInstances/dump_manual.wait"
    assert system.runs.request("DELETE", path).ok
    system.run_maintenance()
    system.wait(lambda: system.reports(genome, "report.fatal"), lambda: system.runs.load_task_states(run_id))
    (fatal,) = system.reports(genome, "report.fatal")
    assert "dump_manual.wait was deleted" in facts(fatal)["error"]
    assert system.runs.wait_finished(run_id, WAIT_SECONDS) == "failed"
    do_jobs(system)
