"""
Lookup files that change while the dag-processor is suspended, so Airflow's DAG is older than the lookups.

Events of the event API have a plan when they arrive, events of other sources get it in the task `route`.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from sqlalchemy import text

from event_hooks.api import run_starter
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events
from event_hooks.ledger.records import EventRequest, NewEvent, StoredEvent
from tests.faults.changing_hives import ChangingHive
from tests.support.system import WAIT_SECONDS, System
from tests.system.events import practice_event
from tests.system.test_api import submit, wait_finished
from tests.system.test_marking import do_jobs
from tools.runs import DAG_PATH

OLD_HIVE, NEW_HIVE = "hive_manual", "hive_moved"
"""No other test uses them at the same time."""

PARSE_SECONDS = 60.0
"""Longest time until the dag-processor parses a file by itself; every 30 s in these tests."""


def list_dag_processors(system: System) -> list[psutil.Process]:
    """Return the dag-processor of this test's Airflow and its children."""
    leader = system.airflow.process_folders["dag-processor"].leader()
    assert leader
    return [leader, *leader.children(recursive=True)]


@contextmanager
def suspended_dag_processor(system: System) -> Iterator[None]:
    """Suspend the dag-processor."""
    with ExitStack() as stack:
        for process in list_dag_processors(system):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
                stack.callback(process.send_signal, signal.SIGCONT)
        yield


@contextmanager
def changed_lookup(system: System, name: str, change: Callable[[dict[str, Any]], object]) -> Iterator[None]:
    """Change a lookup file without a request to parse the DAG files, and restore it at the end."""
    file: Path = system.installation.lookup_files[name]
    before = file.read_text()
    content = json.loads(before)
    change(content)
    try:
        file.write_text(json.dumps(content))
        yield
    finally:
        file.write_text(before)


def set_next_job_id(system: System, hive: str, job_id: int) -> None:
    """Set the number of the next job in a hive."""
    with system.hives[hive].connect() as connection:
        connection.exec_driver_sql(f"ALTER TABLE job AUTO_INCREMENT = {job_id}")


def load_last_job_id(system: System, hive: str) -> int:
    """Return the highest number of a job in a hive."""
    with system.hives[hive].connect() as connection:
        return int(connection.exec_driver_sql("SELECT COALESCE(MAX(job_id), 0) FROM job").scalar_one())


@contextmanager
def worker_of_new_hive(system: System) -> Iterator[None]:
    """Do the jobs of the new hive."""
    hive = ChangingHive(NEW_HIVE, system.hives[NEW_HIVE])
    hive.start_worker()
    try:
        yield
    finally:
        hive.close()


def load_attempt(system: System, event_id: int) -> str:
    """Return the task instance that waits for the job of an event."""
    statement = "SELECT attempt FROM event_process WHERE event_id = :event_id"
    ((attempt,),) = system.ledger_rows(statement, event_id=event_id)
    return str(attempt)


def test_each_event_keeps_the_hive_that_its_process_had_when_it_was_accepted(
    system: System, genome: str
) -> None:
    """Both jobs have the same number, and the job in the new hive fails before the other one runs."""

    def move(processes: dict[str, Any]) -> None:
        processes["dump_moving"]["hive_conn_id"] = NEW_HIVE

    early_genome, late_genome = f"{genome}_early", f"{genome}_late"
    last_ids = [load_last_job_id(system, hive) for hive in (OLD_HIVE, NEW_HIVE)]
    set_next_job_id(system, OLD_HIVE, max(last_ids) + 1000)  # earlier events may still submit jobs
    with suspended_dag_processor(system):
        early = submit(system, practice_event(early_genome, "moving"))
        system.wait_for_trigger(early["run_id"], "dump_moving.wait")
        with changed_lookup(system, "process_lookup", move), worker_of_new_hive(system):
            set_next_job_id(system, NEW_HIVE, early["job_id"])
            late = submit(system, practice_event(late_genome, "moving", fail="entry"))
            assert early["job_id"] == late["job_id"]
            assert wait_finished(system, late["id"]) == "failed"
            attempt = load_attempt(system, early["id"])
            system.clear_task(early["run_id"], "dump_moving.wait")
            system.wait(lambda: load_attempt(system, early["id"]) != attempt, lambda: "no second wait")
            do_jobs(system)
            assert wait_finished(system, early["id"]) == "complete"
            for job in (early, late):
                system.runs.wait_finished(job["run_id"], WAIT_SECONDS)
    for hive, status, job, other in ((OLD_HIVE, "DONE", early, late), (NEW_HIVE, "FAILED", late, early)):
        assert system.jobs(job["run_id"], hive) == [(job["job_id"], status)]
        assert system.jobs(other["run_id"], hive) == []
    assert "report.fatal" not in system.list_routing_keys(early_genome)
    assert "report.info" in system.list_routing_keys(early_genome)
    assert system.list_routing_keys(late_genome) == ["report.fatal"]


def wait_for_run(system: System, run_id: str) -> None:
    """Wait until a run exists."""
    path = f"{DAG_PATH}/dagRuns/{run_id}"
    system.wait(lambda: system.runs.request("GET", path).ok, lambda: f"no run {run_id}")


@contextmanager
def new_process(system: System, name: str) -> Iterator[Callable[[], None]]:
    """
    Suspend the dag-processor, add a process to the type ``growing``; provide a function that continues it.

    :param name: of the process; the tasks of an earlier test's process may still be in Airflow's DAG.
    """

    def add_process(processes: dict[str, Any]) -> None:
        processes[name] = {"analysis": "event_dump_dna", "hive_conn_id": "hive_test"}

    def add_to_type(types: dict[str, Any]) -> None:
        types["growing"] = [name]

    with ExitStack() as suspension, ExitStack() as changes:
        suspension.enter_context(suspended_dag_processor(system))
        changes.enter_context(changed_lookup(system, "process_lookup", add_process))
        changes.enter_context(changed_lookup(system, "event_lookup", add_to_type))
        yield suspension.close


def test_a_run_waits_for_the_tasks_of_a_new_process(system: System, genome: str) -> None:
    process = f"dump_{genome}"
    with new_process(system, process) as continue_dag_processor:
        job = submit(system, practice_event(genome, "growing"))
        wait_for_run(system, job["run_id"])
        system.wait_for_task(job["run_id"], "route", "up_for_retry")
        assert f"{process}.wait" not in system.runs.load_task_states(job["run_id"])
        assert f"the run has no tasks yet for {process}" in system.read_task_log(job["run_id"], "route")
        continue_dag_processor()
        # The state of the event, since events of other tests may share the run.
        assert wait_finished(system, job["id"], PARSE_SECONDS + WAIT_SECONDS) == "complete"
        system.runs.wait_finished(job["run_id"], WAIT_SECONDS)
    assert (job["job_id"], "DONE") in system.jobs(job["run_id"])
    assert system.list_routing_keys(genome) == ["report.info"]


def make_old(system: System, genome: str) -> None:
    """Make events so old that maintain_ledger starts their runs."""
    statement = "UPDATE event SET received_at = received_at - interval '1 minute' WHERE genome LIKE :genome"
    system.ledger.execute(text(statement), {"genome": f"{genome}%"})


def test_a_rejected_event_affects_no_other_event_of_its_run(
    system: System, genome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The type of one event has left the lookup, and that of another has a new process."""
    monkeypatch.setenv("AIRFLOW_CONN_EVENT_LEDGER", system.airflow.ledger_url)
    types = ("new_genebuild", "removed_type", "growing", "new_genebuild")
    payloads = [practice_event(f"{genome}_{position}", name) for position, name in enumerate(types)]
    ledger, run_id = Ledger(), f"not_started__{uuid4().hex}"
    new_events = [
        NewEvent(uuid4().hex, payload["type"], payload["genome"], payload, "test") for payload in payloads
    ]
    accept_events(ledger, new_events, run_id)
    ledger.close()
    with new_process(system, f"dump_{genome}") as continue_dag_processor:
        make_old(system, genome)
        system.run_maintenance()
        wait_for_run(system, run_id)
        system.wait_for_task(run_id, "route", "up_for_retry")
        continue_dag_processor()
        keys = lambda: [system.list_routing_keys(payload["genome"]) for payload in payloads]  # noqa: E731
        expected = [["report.fatal"] if name == "removed_type" else ["report.info"] for name in types]
        system.runs.wait_until(lambda: keys() == expected, PARSE_SECONDS + WAIT_SECONDS, lambda: str(keys()))
    assert len(system.jobs(run_id)) == 3


def test_an_event_that_arrives_after_route_has_read_its_events_gets_another_run(
    system: System, genome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API server keeps the run of the first event open, and maintain_ledger starts it meanwhile."""
    monkeypatch.setenv("AIRFLOW_CONN_EVENT_LEDGER", system.airflow.ledger_url)
    monkeypatch.setattr(run_starter, "WINDOW_SECONDS", 10 * WAIT_SECONDS)
    ledger, events = Ledger(), [practice_event(f"{genome}_{index}", "new_genebuild") for index in range(2)]
    starter = run_starter.RunStarter(lambda: ledger, lambda *_: None)  # maintain_ledger starts both runs
    with new_process(system, f"dump_{genome}"):
        first = accept(starter, events[0])
        make_old(system, genome)
        system.run_maintenance()
        path = f"{DAG_PATH}/dagRuns/{first.run_id}/taskInstances/route"
        state = lambda: system.runs.request("GET", path).json().get("state")  # noqa: E731
        system.wait(lambda: state() == "success", state)
        second = accept(starter, events[1])
        starter.close()
        ledger.close()
    make_old(system, genome)
    system.run_maintenance()
    wait_for_run(system, str(second.run_id))
    assert second.run_id != first.run_id
    for event, stored in zip(events, (first, second), strict=True):
        assert system.runs.wait_finished(str(stored.run_id), WAIT_SECONDS) == "success"
        assert len(system.jobs(str(stored.run_id))) == 1
        assert system.list_routing_keys(event["genome"]) == ["report.info"]


def accept(starter: run_starter.RunStarter, payload: dict[str, Any]) -> StoredEvent:
    """Store an event as the API server does."""
    new_event = NewEvent(uuid4().hex, payload["type"], payload["genome"], payload, "api")
    request = EventRequest([new_event], [[("dump_peptide", "hive_test", "event_dump_peptide")]])
    (result,) = starter.accept([(request, "admin")])
    assert isinstance(result, list), result
    return result[0]
