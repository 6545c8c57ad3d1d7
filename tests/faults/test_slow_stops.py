"""Stops of jobs that take long, on a busy machine, or are interrupted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext

import pytest

from tests.support.system import WAIT_SECONDS, System
from tests.system.events import facts, practice_event
from tests.system.test_marking import load_messages

STOP_SECONDS = 8.0
"""Airflow cancels the stop of a trigger again about every second."""

STOP_NOTE = "Event hooks stopped this job (it was READY): requested by a user"


@contextmanager
def busy_processors() -> Iterator[None]:
    """Keep all processors busy."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@contextmanager
def locked_jobs(system: System, job_ids: Collection[int]) -> Iterator[None]:
    """Lock the rows of jobs in hive_manual, so that a stop of these jobs waits."""
    with system.hives["hive_manual"].begin() as connection:
        ids = ", ".join(map(str, job_ids))
        connection.exec_driver_sql(f"SELECT 1 FROM job WHERE job_id IN ({ids}) FOR UPDATE")
        yield


def start_waiting(system: System, *genomes: str) -> dict[str, tuple[str, int]]:
    """Start runs, wait for their triggers, and return the ids of each run and of its job, by genome."""
    runs, waiting = [system.start(practice_event(genome, "manual")) for genome in genomes], {}
    for genome, run_id in zip(genomes, runs, strict=True):
        system.wait_for_trigger(run_id, "dump_manual.wait")
        ((job_id, _),) = system.jobs(run_id, "hive_manual")
        waiting[genome] = run_id, job_id
    return waiting


def load_process(system: System, genome: str) -> dict[str, object]:
    """Return the process of an event, as the event API shows it."""
    ((event_id,),) = system.ledger_rows("SELECT id FROM event WHERE genome = :genome", genome=genome)
    (process,) = system.api("GET", f"/events/{event_id}").json()["processes"]
    return dict(process)


def is_stop_requested(system: System, genome: str) -> bool:
    """Return whether the ledger has the request to stop the job of an event."""
    statement = (
        "SELECT stop_requested_at IS NOT NULL FROM event_process JOIN event ON id = event_id"
        " WHERE genome = :genome"
    )
    return system.ledger_rows(statement, genome=genome) == [(True,)]


def assert_stopped(system: System, run_id: str, job_id: int, genome: str) -> None:
    """Wait for the end of a run, and check that job, reports and API show the stop."""
    assert system.runs.wait_finished(run_id, 2 * WAIT_SECONDS) == "failed"
    system.wait_for_task(run_id, "report", "failed")
    assert system.jobs(run_id, "hive_manual") == [(job_id, "DONE")]
    assert load_messages(system, "hive_manual", job_id) == [STOP_NOTE]
    process = load_process(system, genome)
    assert (process["state"], process["is_finished"]) == ("stopped", True), process
    (fatal,) = system.reports(genome, "report.fatal")
    assert "stopped" in facts(fatal)["error"]


def test_marking_a_wait_stops_its_job_although_the_stop_takes_8_seconds(
    system: System, genome: str, request: pytest.FixtureRequest
) -> None:
    """With --rounds, the test keeps the processors busy; without, the other tests do so."""
    runs = start_waiting(system, *(f"{genome}_{index}" for index in range(3)))
    with busy_processors() if request.config.getoption("--rounds") else nullcontext():
        with locked_jobs(system, [job_id for _, job_id in runs.values()]):
            for run_id, _ in runs.values():
                system.mark_task(run_id, "dump_manual.wait", "failed")
            for run_id, _ in runs.values():
                system.wait_for_task(run_id, "report", "running")
            time.sleep(STOP_SECONDS)
            assert [system.jobs(run_id, "hive_manual") for run_id, _ in runs.values()] == [
                [(job_id, "READY")] for _, job_id in runs.values()
            ]
        for name, (run_id, job_id) in runs.items():
            assert_stopped(system, run_id, job_id, name)
    for run_id, job_id in runs.values():
        assert f"Job {job_id}: stopped by a user" in system.read_task_log(run_id, "report")


@pytest.mark.rounds
def test_report_finishes_a_stop_whose_triggerer_was_killed(system: System, genome: str) -> None:
    run_id, job_id = start_waiting(system, genome)[genome]
    try:
        with locked_jobs(system, [job_id]):
            system.mark_task(run_id, "dump_manual.wait", "failed")
            system.wait(lambda: is_stop_requested(system, genome), lambda: load_process(system, genome))
            for name in ("triggerer", "triggerer-2"):
                system.airflow.kill(name)
        assert_stopped(system, run_id, job_id, genome)
    finally:
        for name in ("triggerer", "triggerer-2"):
            system.airflow.start_service(name)
    assert f"stopped before they started: job {job_id}" in system.read_task_log(run_id, "report")
