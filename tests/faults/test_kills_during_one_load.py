"""A worker, a triggerer, the scheduler and connections to hives are killed during one load."""

from __future__ import annotations

import random
import time
from contextlib import suppress

import psutil

from tests.faults.killing import Connection
from tests.faults.load import Load
from tests.faults.test_kills import ledger_faults
from tests.support.system import System
from tests.system.events import practice_event
from tools.processes import ProcessFolder
from tools.runs import DAG_PATH

WAIT_SECONDS = 240.0
"""Timeout of all runs, including the time of the kills."""

LOADS = 10
"""Each load has three events in two runs."""


def test_all_parts_may_be_killed_during_30_events(system: System, genome: str) -> None:
    wait = system.runs.wait_until
    idle = system.start(practice_event(f"{genome}_idle", "idle"))
    system.wait_for_trigger(idle, "dump_idle.wait")
    loads = [Load(system, f"{genome}_{index}_", single_fails=index % 2 == 0) for index in range(LOADS)]
    worker = system.airflow.process_folders["worker-1"]
    wait(lambda: is_busy(worker), 60, lambda: "the worker has no task")
    system.airflow.kill("worker-1")
    wait(
        lambda: count_waiting(system) >= 2,
        120,
        lambda: f"{count_waiting(system)} tasks wait at the same time",
    )
    system.airflow.kill("triggerer-2")
    Connection(system, random.Random()).kill(lambda: all(load.is_finished() for load in loads))
    system.airflow.kill("scheduler")
    killed = time.monotonic()
    assert not all(load.is_finished() for load in loads)
    for name in ("scheduler", "triggerer-2", "worker-1"):
        system.airflow.start_service(name)
    system.airflow.process_folders["triggerer"].stop(60)  # a stop, not a crash: its waits must continue
    system.airflow.start_service("triggerer")
    wait(
        lambda: all(load.is_finished() for load in loads),
        WAIT_SECONDS,
        lambda: str([load.count_steps() for load in loads]),
    )
    print(f"all {3 * LOADS} events finished {time.monotonic() - killed:.0f} s after the last kill")
    assert [fault for load in loads for fault in load.find_faults()] == []
    assert ledger_faults(system, [run.run_id for load in loads for run in load.runs]) == []
    ((job_id, status),) = system.jobs(idle, "hive_idle")
    with system.hives["hive_idle"].connect() as connection:
        log = connection.exec_driver_sql(f"SELECT msg FROM log_message WHERE job_id = {job_id}").all()
    assert (status, log) == ("READY", [])


def is_busy(worker: ProcessFolder) -> bool:
    """Return whether a Celery worker runs a task: its child process then has a child process."""
    leader = worker.leader()
    with suppress(psutil.NoSuchProcess):
        return bool(leader and any(child.children() for child in leader.children()))
    return False


def count_waiting(system: System) -> int:
    """Return how many tasks wait in a triggerer."""
    response = system.runs.request("GET", f"{DAG_PATH}/dagRuns/~/taskInstances?state=deferred&limit=1")
    return int(response.json()["total_entries"])
