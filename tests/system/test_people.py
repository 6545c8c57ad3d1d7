"""What a person is told, and may do, while jobs do not get on."""

from __future__ import annotations

import pytest

from tests.support.neighbours import IDLE
from tests.support.practice_hive.worker import Worker
from tests.support.running_airflow import LIMIT, System
from tests.system.test_process_event import event, facts
from tools.runs import DAG


def notes(system: System, job_id: int) -> list[str]:
    """Give what the idle hive's log says of a job."""
    with system.hives[IDLE].connect() as connection:
        rows = connection.exec_driver_sql(f"SELECT msg FROM log_message WHERE job_id = {job_id}")
        return [msg for (msg,) in rows]


def until_awaited(system: System, run_id: str) -> None:
    """Wait until the trigger runs: only then it can learn that a person ended the wait."""
    path = f"{DAG}/dagRuns/{run_id}/taskInstances/dump_idle.wait/xcomEntries/return_value"
    system.runs.until(lambda: system.runs.ask("GET", path).ok, LIMIT, lambda: "no trigger")


def work(system: System) -> None:
    """Do the idle hive's jobs."""
    with Worker(system.hives[IDLE].url.render_as_string(hide_password=False)) as worker:
        worker.work_until_idle()


def test_a_job_that_nobody_picks_up_is_reported_once_and_fails_with_that_reason(
    system: System, genome: str
) -> None:
    run_id = system.start(event(genome, "idle_for_long"))
    system.runs.until(lambda: system.keys(genome) != [], LIMIT, lambda: "no report")
    (warn,) = system.reports(genome)
    assert warn["routing_key"] == "report.warn"
    assert facts(warn)["status"] == "no beekeeper"
    assert "beekeeper.pl -url mysql://" in facts(warn)["error"]
    assert system.runs.until_over(run_id, LIMIT) == "failed"
    assert system.keys(genome) == ["report.fatal", "report.warn"]
    (fatal,) = system.reports(genome, "email_report")
    assert "not over in time: 0 of 1 jobs are done" in facts(fatal)["error"]
    assert "no beekeeper" in facts(fatal)["error"]
    assert "no beekeeper has ever worked" in system.log(run_id, "dump_idle_for_long.wait")
    (late,) = [one for one in system.all_reports(genome) if one["params"]["event_hooks"]["step"] == "late"]
    assert (late["routing_key"], facts(late)["events"], facts(late)["seconds"]) == ("report.warn", 1, 3)


@pytest.mark.parametrize("cleared", ["submit", "wait"])
def test_clearing_lets_what_failed_run_again(system: System, genome: str, cleared: str) -> None:
    """The run has a deadline ahead, by which Airflow's own reference makes clearing an error."""
    run_id = system.start(event(genome, "new_genebuild", fail_until_reset="child"))
    assert system.runs.until_over(run_id, LIMIT) == "failed"
    before = system.jobs(run_id)
    system.clear(run_id, f"dump_peptide.{cleared}")
    assert system.runs.until_over(run_id, LIMIT) == "success"
    assert system.jobs(run_id) == before
    assert system.keys(genome) == ["report.fatal", "report.info"]
    assert "Cleared. Let run again: job" in system.log(run_id, "dump_peptide.wait", 2)


@pytest.mark.parametrize("marked", ["task", "run"])
def test_marking_as_failed_stops_what_has_not_begun_and_clearing_takes_that_back(
    system: System, genome: str, marked: str
) -> None:
    run_id = system.start(event(genome, "idle"))
    until_awaited(system, run_id)
    ((job_id, status),) = system.jobs(run_id, IDLE)
    assert status == "READY"
    if marked == "task":
        system.mark(run_id, "dump_idle.wait", "failed")
    else:
        answer = system.runs.ask("PATCH", f"{DAG}/dagRuns/{run_id}", json={"state": "failed"})
        assert answer.status_code == 200, answer.text
    system.runs.until(lambda: system.jobs(run_id, IDLE) == [(job_id, "DONE")], LIMIT, lambda: "not stopped")
    assert notes(system, job_id) == ["Event hooks stopped this job (it was READY): a person asked for it"]
    system.runs.until(lambda: "report.fatal" in system.keys(genome), LIMIT, lambda: "no report")
    system.until_task(run_id, "dump_idle.wait", "failed")
    system.clear(run_id, "dump_idle.wait")
    system.runs.until(
        lambda: system.jobs(run_id, IDLE) == [(job_id, "READY")], LIMIT, lambda: "still stopped"
    )
    work(system)
    assert system.runs.until_over(run_id, LIMIT) == "success"
    assert "report.info" in system.keys(genome)


def test_marking_as_success_or_clearing_stops_nothing(system: System, genome: str) -> None:
    run_id = system.start(event(genome, "idle"))
    system.until_task(run_id, "dump_idle.wait", "deferred")
    until_awaited(system, run_id)
    system.clear(run_id, "dump_idle.wait")
    system.until_task(run_id, "dump_idle.wait", "deferred")
    system.mark(run_id, "dump_idle.wait", "success")
    assert system.runs.until_over(run_id, LIMIT) == "success"
    ((job_id, status),) = system.jobs(run_id, IDLE)
    assert (status, notes(system, job_id)) == ("READY", [])
    work(system)


def test_a_triggerer_that_is_restarted_stops_nothing(system: System, genome: str) -> None:
    run_id = system.start(event(genome, "idle"))
    until_awaited(system, run_id)
    system.airflow.places["triggerer"].end(LIMIT)
    system.airflow.start_service("triggerer")
    ((job_id, status),) = system.jobs(run_id, IDLE)
    assert (status, notes(system, job_id)) == ("READY", [])
    work(system)
    assert system.runs.until_over(run_id, LIMIT) == "success"
