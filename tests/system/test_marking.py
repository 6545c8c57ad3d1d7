"""
Tasks and runs that a user marks as failed or as success.

Their jobs are in a hive without a worker; each test does the jobs itself, so these tests are one group.
"""

from __future__ import annotations

from tests.support.practice_hive.worker import Worker
from tests.support.system import LIMIT, System
from tests.system.events import practice_event, step
from tools.runs import DAG


def messages(system: System, hive: str, job_id: int) -> list[str]:
    """Return what a hive's log says of a job."""
    with system.hives[hive].connect() as connection:
        rows = connection.exec_driver_sql(f"SELECT msg FROM log_message WHERE job_id = {job_id}")
        return [msg for (msg,) in rows]


def work(system: System) -> None:
    """Do the jobs of the hive that has no worker of its own."""
    with Worker(system.hives["hive_manual"].url.render_as_string(hide_password=False)) as worker:
        worker.work_until_idle()


def test_marking_as_failed_stops_ready_jobs_and_clearing_resumes_them(system: System, genome: str) -> None:
    """Of two runs, one has its task marked, the other itself."""
    genomes = {what: f"{genome}_{what}" for what in ("task", "run")}
    runs = {what: system.start(practice_event(name, "manual")) for what, name in genomes.items()}
    for run_id in runs.values():
        system.until_awaited(run_id, "dump_manual.wait")
    jobs = {what: system.jobs(run_id, "hive_manual") for what, run_id in runs.items()}
    assert [status for ((_, status),) in jobs.values()] == ["READY"] * 2
    system.mark(runs["task"], "dump_manual.wait", "failed")
    answer = system.runs.ask("PATCH", f"{DAG}/dagRuns/{runs['run']}", json={"state": "failed"})
    assert answer.status_code == 200, answer.text
    for what, run_id in runs.items():
        ((job_id, _),) = jobs[what]
        system.wait(lambda: system.jobs(run_id, "hive_manual") == [(job_id, "DONE")])  # noqa: B023
        assert messages(system, "hive_manual", job_id) == [
            "Event hooks stopped this job (it was READY): a person asked for it"
        ]
        system.wait(lambda: "report.fatal" in system.keys(genomes[what]), lambda: "no report")  # noqa: B023
        system.until_task(run_id, "dump_manual.wait", "failed")
        system.until_task(run_id, "report", "success")
        assert system.runs.until_over(run_id, LIMIT) == "failed"
        system.clear(run_id, "dump_manual.wait")
    for what, run_id in runs.items():
        system.wait(lambda: system.jobs(run_id, "hive_manual") == jobs[what])  # noqa: B023
    work(system)
    assert [system.runs.until_over(run_id, LIMIT) for run_id in runs.values()] == ["success"] * 2
    assert all("report.info" in system.keys(name) for name in genomes.values())


def test_clearing_or_marking_as_success_stops_no_job_and_is_no_success(system: System, genome: str) -> None:
    run_id = system.start(practice_event(genome, "manual"))
    system.until_awaited(run_id, "dump_manual.wait")
    system.clear(run_id, "dump_manual.wait")
    system.wait(lambda: system.runs.tasks(run_id)["dump_manual.wait"]["try_number"] == 2)
    system.until_task(run_id, "dump_manual.wait", "deferred")
    system.mark(run_id, "dump_manual.wait", "success")
    assert system.runs.until_over(run_id, LIMIT) == "success"
    ((job_id, status),) = system.jobs(run_id, "hive_manual")
    assert (status, messages(system, "hive_manual", job_id)) == ("READY", [])
    ended = [report["routing_key"] for report in system.reports(genome) if step(report) == "process_finished"]
    assert ended == ["report.warn"]
    work(system)
