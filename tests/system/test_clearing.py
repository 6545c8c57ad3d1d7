"""Runs that are cleared, killed, or not picked up."""

from __future__ import annotations

import time

import psutil

from event_hooks import xcom
from tests.support.system import WAIT_SECONDS, System
from tests.system.events import facts, practice_event


def test_a_job_that_is_not_picked_up_is_reported_once_and_then_fails(system: System, genome: str) -> None:
    run_id = system.start(practice_event(genome, "idle_for_long"))
    system.wait(lambda: system.list_routing_keys(genome), lambda: "no report")
    (warn,) = system.reports(genome)
    assert warn["routing_key"] == "report.warn"
    assert facts(warn)["status"] == "no_beekeeper"
    assert "beekeeper.pl -url <URL of connection hive_" in facts(warn)["error"]
    assert system.runs.wait_finished(run_id, WAIT_SECONDS) == "failed"
    assert system.list_routing_keys(genome) == ["report.fatal", "report.warn"]
    (fatal,) = system.reports(genome, "report.fatal")
    assert "not finished in time: 0 of 1 jobs are done" in facts(fatal)["error"]
    assert "no beekeeper" in facts(fatal)["error"]
    assert "no beekeeper has ever worked" in system.read_task_log(run_id, "dump_idle_for_long.wait")
    system.wait(lambda: len(system.mails(genome)) == 2, lambda: system.mails(genome))
    stalled, timed_out = sorted(str(mail["Subject"]) for mail, _ in system.mails(genome))
    assert stalled.startswith("[event hooks] dump_idle_for_long stalled")
    assert timed_out.startswith("[event hooks] dump_idle_for_long timed_out")


def test_clearing_all_tasks_finds_the_same_job_and_sends_no_second_follow_up(
    system: System, genome: str
) -> None:
    run_id, state = system.run(practice_event(genome, "new_handover"))
    assert state == "success"
    before = system.jobs(run_id)
    system.wait(lambda: count_follow_ups(system, genome) == 1)
    system.clear_task(run_id, "route")
    system.wait(lambda: system.runs.load_tasks(run_id)["report"]["try_number"] == 2)
    assert system.runs.wait_finished(run_id, WAIT_SECONDS) == "success"
    tasks = system.runs.load_tasks(run_id)
    cleared = ("route", "dump_first.submit", "dump_first.wait", "report")
    assert {tasks[name]["try_number"] for name in cleared} == {2}
    assert system.jobs(run_id) == before
    assert len(before) == 1
    assert count_follow_ups(system, genome) == 1


def count_follow_ups(system: System, genome: str) -> int:
    """Return how many follow-up events of a genome have finished."""
    reports = system.reports(genome, "report.info")
    return sum("follows" in report["params"] for report in reports)


def test_clearing_a_failed_wait_runs_its_job_again(system: System, genome: str) -> None:
    run_id, state = system.run(practice_event(genome, "new_genebuild", fail_until_reset="child"))
    assert state == "failed"
    before = system.jobs(run_id)
    system.clear_task(run_id, "dump_peptide.wait")
    assert system.runs.wait_finished(run_id, WAIT_SECONDS) == "success"
    assert system.jobs(run_id) == before
    assert system.list_routing_keys(genome) == ["report.fatal", "report.info"]
    assert "Cleared; reset job" in system.read_task_log(run_id, "dump_peptide.wait", 2)


def test_a_second_failure_after_clearing_is_reported_again_and_mailed_once(
    system: System, genome: str
) -> None:
    run_id, state = system.run(practice_event(genome, "new_genebuild", fail="child"))
    assert (state, system.list_routing_keys(genome)) == ("failed", ["report.fatal"])
    system.clear_task(run_id, "dump_peptide.submit")
    assert system.runs.wait_finished(run_id, WAIT_SECONDS) == "failed"
    assert system.list_routing_keys(genome) == ["report.fatal"] * 2
    assert len({report["message_id"] for report in system.reports(genome)}) == 2
    assert len(system.jobs(run_id)) == 1
    ((mail, _),) = system.mails(genome)
    assert str(mail["Subject"]).startswith("[event hooks] dump_peptide failed")


def test_marking_a_second_wait_as_success_does_not_report_the_first_outcome(
    system: System, genome: str
) -> None:
    run_id, state = system.run(practice_event(genome, "new_genebuild"))
    assert state == "success"
    ((job_id, _),) = system.jobs(run_id)
    with system.hives["hive_test"].begin() as connection:
        connection.exec_driver_sql(f"UPDATE job SET status = 'RUN' WHERE job_id = {job_id}")
    system.clear_task(run_id, "dump_peptide.wait")
    system.wait_for_task(run_id, "dump_peptide.wait", "deferred")
    load_result = lambda: xcom.decode_xcom(system.runs.load_xcom(run_id, "dump_peptide.wait"))  # noqa: E731
    system.wait(lambda: load_result()["state"] == "waiting", lambda: "the XCom of the first wait stays")
    system.mark_task(run_id, "dump_peptide.wait", "success")
    system.runs.wait_finished(run_id, WAIT_SECONDS)
    assert system.list_routing_keys(genome) == ["report.info", "report.warn"]


def test_a_submit_killed_after_its_insert_creates_one_job(system: System, genome: str) -> None:
    """The kill must fall between the insert and the task's end; a later kill is repeated."""
    for _ in range(20):
        run_id = system.start(practice_event(genome, "new_genebuild"))
        if kill_after_insert(system, run_id):
            break
    assert system.runs.wait_finished(run_id, WAIT_SECONDS) == "success"
    assert system.runs.load_tasks(run_id)["dump_peptide.submit"]["try_number"] == 2
    assert len(system.jobs(run_id)) == 1


def kill_after_insert(system: System, run_id: str) -> bool:
    """Kill the processes of a submit as soon as its job exists; return whether Airflow retries the task."""
    task_id = system.runs.load_tasks(run_id)["dump_peptide.submit"]["id"]
    deadline = time.monotonic() + WAIT_SECONDS
    while not system.jobs(run_id):
        assert time.monotonic() < deadline, "no job"
        time.sleep(0.005)
    for process in list_task_processes(system, task_id):
        process.kill()
    state = lambda: system.runs.load_task_states(run_id)["dump_peptide.submit"]  # noqa: E731
    system.wait(lambda: state() in ("success", "up_for_retry", "failed"), state)
    return state() == "up_for_retry"


def list_task_processes(system: System, task_instance_id: str) -> list[psutil.Process]:
    """Return the supervisor of a task and the process that runs it."""
    for name in ("worker-1", "worker-2"):
        leader = (
            system.airflow.process_folders[name].leader() if name in system.airflow.process_folders else None
        )
        for process in leader.children() if leader else ():
            if task_instance_id in " ".join(process.cmdline()):
                return [process, *process.children(recursive=True)]
    return []
