"""Whatever is retried, cleared, killed or broken meanwhile: one job, and the truth reported."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from event_hooks import xcom
from tests.support.running_airflow import LIMIT, System
from tests.system.test_process_event import event
from tools.runs import DAG


@pytest.mark.parametrize("task", ["route", "dump_peptide.submit", "dump_peptide.wait"])
def test_clearing_a_task_finds_the_same_job(system: System, genome: str, task: str) -> None:
    run_id = system.start(event(genome, "new_genebuild"))
    assert system.runs.until_over(run_id, LIMIT) == "success"
    before = system.jobs(run_id)
    system.clear(run_id, task)
    assert system.runs.until_over(run_id, LIMIT) == "success"
    assert system.jobs(run_id) == before
    assert len(before) == 1


def test_a_submit_killed_after_its_insert_has_one_job(system: System, genome: str) -> None:
    """The kill must come between the insert and the task's end: a try that came too late is repeated."""
    for _ in range(20):
        run_id = system.start(event(genome, "new_genebuild"))
        if _killed_when(system, run_id, lambda run_id: bool(system.jobs(run_id))):
            break
    assert system.runs.until_over(run_id, LIMIT) == "success"
    assert system.runs.tasks(run_id)["dump_peptide.submit"]["try_number"] == 2
    assert len(system.jobs(run_id)) == 1


def _killed_when(system: System, run_id: str, is_time: Any) -> bool:
    """Kill what runs the run's submit as soon as it is time; tell whether Airflow had to try again."""
    limit = time.monotonic() + LIMIT
    while not is_time(run_id):
        assert time.monotonic() < limit
        time.sleep(0.005)
    for process in _task_processes(system, run_id):
        process.kill()
    states = ("success", "up_for_retry", "failed")
    system.runs.until(
        lambda: system.runs.task_states(run_id)["dump_peptide.submit"] in states, LIMIT, lambda: run_id
    )
    return system.runs.task_states(run_id)["dump_peptide.submit"] == "up_for_retry"


def _task_processes(system: System, run_id: str) -> Iterator[psutil.Process]:
    """Give the processes that run tasks: children of the executor's workers."""
    scheduler = system.airflow.places["scheduler"].leader()
    assert scheduler
    for process in psutil.Process(scheduler.pid).children(recursive=True):
        if process.parent() and process.parent().ppid() == scheduler.pid:
            yield process


def test_a_triggerer_that_is_killed_loses_no_wait(system: System, genome: str) -> None:
    run_id = system.start(event(genome, "new_genebuild", seconds=1.5))
    system.until_task(run_id, "dump_peptide.wait", "deferred")
    system.airflow.kill("triggerer")
    system.airflow.start_service("triggerer")
    assert system.runs.until_over(run_id, 2 * LIMIT) == "success"
    assert system.keys(genome) == ["report.info"]


def test_a_wait_that_a_person_ends_is_no_success(system: System, genome: str) -> None:
    run_id = system.start(event(genome, "new_genebuild", seconds=3))
    system.until_task(run_id, "dump_peptide.wait", "deferred")
    system.mark(run_id, "dump_peptide.wait", "success")
    system.runs.until_over(run_id, LIMIT)
    assert system.keys(genome) == ["report.warn"]


def test_a_broken_lookup_is_shown_and_the_last_good_one_goes_on(
    system: System, genome: str, lookup_files: dict[str, Path]
) -> None:
    good = lookup_files["event_lookup"].read_text()
    lookup_files["event_lookup"].write_text('{"new_assembly": ["dump_rna"]}')
    try:
        system.parse()
        system.runs.until(lambda: bool(_import_errors(system)), LIMIT, lambda: "no import error")
        assert system.runs.until_over(system.start(event(genome, "new_genebuild")), LIMIT) == "success"
        (error,) = _import_errors(system)
    finally:
        lookup_files["event_lookup"].write_text(good)
        system.parse()
    assert f"{lookup_files['event_lookup']}: new_assembly[0]: expected a process that" in error["stack_trace"]
    assert system.keys(genome) == ["report.info"]
    system.runs.until(lambda: not _import_errors(system), LIMIT, lambda: "the import error stays")


def _import_errors(system: System) -> list[dict[str, Any]]:
    answer = system.runs.ask("GET", "/importErrors")
    answer.raise_for_status()
    errors: list[dict[str, Any]] = answer.json()["import_errors"]
    return errors


@pytest.mark.parametrize("gone", ["process", "type"])
def test_a_report_is_sent_though_the_lookup_has_changed_meanwhile(
    system: System, genome: str, lookup_files: dict[str, Path], gone: str
) -> None:
    run_id = system.start(event(genome, "old_style", seconds=3))
    system.until_task(run_id, "dump_old.wait", "deferred")
    good = {name: file.read_text() for name, file in lookup_files.items()}
    try:
        for name, file in lookup_files.items():
            content = json.loads(good[name])
            content.pop("old_style", None)
            if gone == "process":
                content.pop("dump_old", None)
            file.write_text(json.dumps(content))
        system.parse()
        system.runs.until(lambda: "old_style" not in _offered_types(system), LIMIT, lambda: "the type stays")
        system.runs.until_over(run_id, LIMIT)
    finally:
        for name, file in lookup_files.items():
            file.write_text(good[name])
        system.parse()
    system.runs.until(lambda: "old_style" in _offered_types(system), LIMIT, lambda: "the type is away")
    reports = {report["routing_key"]: report["message"] for report in system.reports(genome)}
    if gone == "type":
        assert set(reports) == {"report.info"}
        assert len(system.keys(genome)) == 2
    else:
        assert set(reports) == {"report.info", "report.fatal"}
        assert "left the lookup while its job ran" in reports["report.fatal"]


def test_a_wait_that_is_cleared_and_then_ended_by_a_person_is_no_success(system: System, genome: str) -> None:
    """What the first wait left must not pass for the second one's outcome."""
    run_id = system.start(event(genome, "new_genebuild"))
    assert system.runs.until_over(run_id, LIMIT) == "success"
    ((job_id, _),) = system.jobs(run_id)
    with system.hives[0].begin() as connection:
        connection.exec_driver_sql(f"UPDATE job SET status = 'RUN' WHERE job_id = {job_id}")
    system.clear(run_id, "dump_peptide.wait")
    system.until_task(run_id, "dump_peptide.wait", "deferred")
    _until_asked_for(system, run_id)
    system.mark(run_id, "dump_peptide.wait", "success")
    system.runs.until_over(run_id, LIMIT)
    assert system.keys(genome) == ["report.info", "report.warn"]


def _until_asked_for(system: System, run_id: str) -> None:
    """Wait until the trigger runs: it then has forgotten what an earlier one left."""
    left = lambda: xcom.decoded(system.runs.xcom(run_id, "dump_peptide.wait"))  # noqa: E731
    system.runs.until(lambda: left()["outcomes"] is None, LIMIT, lambda: "the XCom of the first wait stays")


def _offered_types(system: System) -> list[str]:
    params = system.runs.ask("GET", f"{DAG}/details").json()["params"]
    offered: list[str] = params["type"]["schema"]["examples"]
    return offered
