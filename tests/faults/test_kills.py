"""
Each event and process has one job and one verdict, whatever is killed at whatever moment.

`make test` kills a worker, a triggerer, the scheduler and connections during one load. `make faults` kills
each at 20 random moments and counts (``--rounds 20``), with the LocalExecutor.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress

import psutil
import pytest

from tests.faults.killing import TARGETS, Connection
from tests.faults.load import Load
from tests.faults.rounds import Rounds
from tests.support.system import System
from tests.system.events import practice_event
from tools.processes import ProcessFolder
from tools.runs import DAG

LIMIT = 240.0
"""Seconds in which all runs must be over, kills included."""

LOADS = 6
"""Each has three events in two runs."""


def test_all_parts_may_be_killed_during_18_events(system: System, genome: str) -> None:
    wait = system.runs.until
    idle = system.start(practice_event(f"{genome}_idle", "idle"))
    system.until_awaited(idle, "dump_idle.wait")
    loads = [Load(system, f"{genome}_{index}_", single_fails=index % 2 == 0) for index in range(LOADS)]
    worker = system.airflow.places["worker-1"]
    wait(lambda: is_busy(worker), 60, lambda: "the worker has no task")
    system.airflow.kill("worker-1")
    wait(lambda: waiting(system) >= 2, 120, lambda: f"{waiting(system)} tasks wait at the same time")
    system.airflow.kill("triggerer-2")
    Connection(system, random.Random()).kill(lambda: all(load.is_over() for load in loads))
    system.airflow.kill("scheduler")
    killed = time.monotonic()
    assert not all(load.is_over() for load in loads)
    for name in ("scheduler", "triggerer-2", "worker-1"):
        system.airflow.start_service(name)
    system.airflow.places["triggerer"].end(60)  # a stop, not a crash: what it waits for must go on
    system.airflow.start_service("triggerer")
    wait(lambda: all(load.is_over() for load in loads), LIMIT, lambda: str([load.steps() for load in loads]))
    print(f"all {3 * LOADS} events over {time.monotonic() - killed:.0f} s after the last kill")
    assert [fault for load in loads for fault in load.faults()] == []
    assert ledger_faults(system, [run.run_id for load in loads for run in load.runs]) == []
    ((job_id, status),) = system.jobs(idle, "hive_idle")
    with system.hives["hive_idle"].connect() as connection:
        log = connection.exec_driver_sql(f"SELECT msg FROM log_message WHERE job_id = {job_id}").all()
    assert (status, log) == ("READY", [])


def is_busy(worker: ProcessFolder) -> bool:
    """Return whether a Celery worker runs a task: the process that has one starts another one for it."""
    leader = worker.leader()
    with suppress(psutil.NoSuchProcess):
        return bool(leader and any(child.children() for child in leader.children()))
    return False


def waiting(system: System) -> int:
    """Return how many tasks wait in a triggerer."""
    answer = system.runs.ask("GET", f"{DAG}/dagRuns/~/taskInstances?state=deferred&limit=1")
    return int(answer.json()["total_entries"])


@pytest.mark.rounds
@pytest.mark.parametrize("target", TARGETS)
def test_a_kill_at_a_random_moment_changes_no_outcome(
    rounds: Rounds, target: str, request: pytest.FixtureRequest
) -> None:
    loads = [rounds.make(target, number) for number in range(request.config.getoption("--rounds"))]
    done = [one for one in rounds.done if one.target == target]
    faults = [(one.number, fault) for one in done for fault in one.faults]
    faults += [(number, f"later: {fault}") for number, load in enumerate(loads) for fault in load.faults()]
    assert faults == [], f"--seed {rounds.seed}"
    run_ids = [run.run_id for load in loads for run in load.runs]
    assert ledger_faults(rounds.system, run_ids) == [], f"--seed {rounds.seed}"


def ledger_faults(system: System, run_ids: Iterable[str]) -> list[str]:
    """Return what the command that compares ledger, hives and reports says about these runs."""
    command = [sys.executable, "-m", "event_hooks.consistency", "--hours", "2"]
    done = subprocess.run(
        command, env=system.airflow.environment, capture_output=True, text=True, timeout=300, check=False
    )
    lines = done.stdout.splitlines()
    assert done.returncode in (0, 1), done.stderr
    assert "faults" in lines[-1], done.stdout
    return [line for line in lines for run_id in run_ids if run_id in line]
