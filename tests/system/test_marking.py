"""
Tasks and runs that a user marks as failed or as success.

Their jobs are in a hive without a worker; each test does the jobs itself, so these tests and those of
test_deleting.py are one group.
"""

from __future__ import annotations

import requests

from tests.support.practice_hive.worker import Worker
from tests.support.system import WAIT_SECONDS, System
from tests.system.events import practice_event, step
from tools.runs import DAG_PATH


def load_messages(system: System, hive: str, job_id: int) -> list[str]:
    """Return the messages of a job in a hive's log."""
    with system.hives[hive].connect() as connection:
        rows = connection.exec_driver_sql(f"SELECT msg FROM log_message WHERE job_id = {job_id}")
        return [msg for (msg,) in rows]


def do_jobs(system: System, hive: str = "hive_manual") -> None:
    """Do the jobs of a hive that has no worker of its own."""
    with Worker(system.hives[hive].url.render_as_string(hide_password=False)) as worker:
        worker.run_until_idle()


def test_marking_as_failed_stops_ready_jobs_and_clearing_resumes_them(system: System, genome: str) -> None:
    """There are two runs: in the first the task is marked, in the second the run."""
    genomes = {marked: f"{genome}_{marked}" for marked in ("task", "run")}
    runs = {marked: system.start(practice_event(name, "manual")) for marked, name in genomes.items()}
    for run_id in runs.values():
        system.wait_for_trigger(run_id, "dump_manual.wait")
    jobs = {marked: system.jobs(run_id, "hive_manual") for marked, run_id in runs.items()}
    assert [status for ((_, status),) in jobs.values()] == ["READY"] * 2
    system.mark_task(runs["task"], "dump_manual.wait", "failed")
    answer = system.runs.request("PATCH", f"{DAG_PATH}/dagRuns/{runs['run']}", json={"state": "failed"})
    assert answer.status_code == 200, answer.text
    for marked, run_id in runs.items():
        ((job_id, _),) = jobs[marked]
        system.wait(lambda: system.jobs(run_id, "hive_manual") == [(job_id, "DONE")])  # noqa: B023
        assert load_messages(system, "hive_manual", job_id) == [
            "Event hooks stopped this job (it was READY): requested by a user"
        ]
        system.wait(lambda: "report.fatal" in system.list_routing_keys(genomes[marked]), lambda: "no report")  # noqa: B023
        system.wait_for_task(run_id, "dump_manual.wait", "failed")
        system.wait_for_task(run_id, "report", "failed")
        assert system.runs.wait_finished(run_id, WAIT_SECONDS) == "failed"
        system.clear_task(run_id, "dump_manual.wait")
    for marked, run_id in runs.items():
        system.wait(lambda: system.jobs(run_id, "hive_manual") == jobs[marked])  # noqa: B023
    do_jobs(system)
    assert [system.runs.wait_finished(run_id, WAIT_SECONDS) for run_id in runs.values()] == ["success"] * 2
    assert all("report.info" in system.list_routing_keys(name) for name in genomes.values())


def test_a_changed_xcom_stops_no_job_of_another_run(system: System, genome: str) -> None:
    """A user with the role user can change XComs, and mark tasks."""
    genomes = [f"{genome}_{name}" for name in ("own", "other")]
    own, other = (system.start(practice_event(name, "manual")) for name in genomes)
    for run_id in (own, other):
        system.wait_for_trigger(run_id, "dump_manual.wait")
    ((job_id, _),) = system.jobs(other, "hive_manual")
    xcoms = f"/api/v2{DAG_PATH}/dagRuns/{own}/taskInstances/dump_manual.submit/xcomEntries"
    headers = {"Authorization": f"Bearer {system.airflow.log_in('operator')}"}
    for value in ({"hive_manual": f"job {job_id}"}, [job_id], job_id):
        answer = requests.patch(
            f"{system.airflow.url}{xcoms}/return_value", json={"value": value}, headers=headers, timeout=10
        )
        assert answer.status_code == 200, answer.text
    system.mark_task(own, "dump_manual.wait", "failed")
    assert system.runs.wait_finished(own, WAIT_SECONDS) == "failed"
    assert [status for _, status in system.jobs(own, "hive_manual")] == ["DONE"]
    assert system.jobs(other, "hive_manual") == [(job_id, "READY")]
    do_jobs(system)
    assert system.runs.wait_finished(other, WAIT_SECONDS) == "success"


def test_clearing_or_marking_as_success_stops_no_job_and_reports_no_success(
    system: System, genome: str
) -> None:
    run_id = system.start(practice_event(genome, "manual"))
    system.wait_for_trigger(run_id, "dump_manual.wait")
    system.clear_task(run_id, "dump_manual.wait")
    system.wait(lambda: system.runs.load_tasks(run_id)["dump_manual.wait"]["try_number"] == 2)
    system.wait_for_task(run_id, "dump_manual.wait", "deferred")
    system.mark_task(run_id, "dump_manual.wait", "success")
    assert system.runs.wait_finished(run_id, WAIT_SECONDS) == "success"
    ((job_id, status),) = system.jobs(run_id, "hive_manual")
    assert (status, load_messages(system, "hive_manual", job_id)) == ("READY", [])
    routing_keys = [
        report["routing_key"] for report in system.reports(genome) if step(report) == "process_finished"
    ]
    assert routing_keys == ["report.warn"]
    do_jobs(system)
