"""Runs that no task of Airflow works on: `maintain_ledger` starts them, or records what is missing."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from airflow.triggers.base import TaskFailedEvent

from event_hooks.ledger.database import Ledger
from event_hooks.ledger.outcomes import request_stop, start_attempt
from event_hooks.ledger.processes import load_run_statuses
from event_hooks.ledger.records import ProcessState
from event_hooks.maintain_ledger import resumption
from event_hooks.maintain_ledger.resumption import resume_runs
from event_hooks.process_event import runs
from tests.integration.hives import MakeHive, PracticeHive
from tests.integration.process_event.conftest import (
    ANALYSIS,
    RUN_ID,
    accept,
    list_rejected,
    list_reports,
    load_only_status,
    load_states,
    submit,
    wait,
    wait_until,
)
from tests.support.task_instances import RunOfTasks
from tests.support.triggerer import Triggerer

ASSEMBLY: dict[str, Any] = {"type": "new_assembly"}
WAITING = {"route": "success", "dump.submit": "success", "dump.wait": "deferred", "report": None}


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the runs that were started; all events are old enough."""
    run_ids: list[str] = []
    monkeypatch.setattr(resumption, "MAINTENANCE_AGE", timedelta(0))
    monkeypatch.setattr(runs, "start_run", lambda ledger, run_id: run_ids.append(run_id))
    return run_ids


@pytest.fixture
def hive(make_hive: MakeHive) -> PracticeHive:
    return make_hive("mysql")


def resume(ledger: Ledger, run: RunOfTasks) -> None:
    resume_runs(ledger, run.build_context("maintain")["ti"])


def submit_one(ledger: Ledger, hive: PracticeHive, **states: str | None) -> RunOfTasks:
    run = accept(ledger, [(ASSEMBLY, [("dump", hive.conn_id, ANALYSIS)])])
    submit(run)
    start_attempt(ledger, "dump", [load_only_status(ledger).event_id], "try1")
    run.states |= {**WAITING, **{name.replace("_", "."): state for name, state in states.items()}}
    return run


def test_a_run_that_does_not_exist_is_started(ledger: Ledger, hive: PracticeHive, started: list[str]) -> None:
    run = submit_one(ledger, hive)
    run.states = {}
    resume(ledger, run)
    assert (started, load_only_status(ledger).state) == ([RUN_ID], ProcessState.SUBMITTED)


def test_a_run_that_was_never_started_is_started(ledger: Ledger, started: list[str]) -> None:
    run = accept(ledger, [(ASSEMBLY, [])])
    run.states = {}
    resume(ledger, run)
    assert started == [RUN_ID]


@pytest.mark.parametrize(
    "states",
    [
        {},
        {"dump_wait": None, "dump_submit": "up_for_retry"},
        {"route": "up_for_retry", "dump_wait": None},
        {"dump_wait": "failed"},
        {"report": "success"},
    ],
    ids=["waiting", "submitting", "routing", "reporting", "cleared wait"],
)
def test_a_run_that_a_task_works_on_is_left_alone(
    ledger: Ledger, hive: PracticeHive, started: list[str], states: dict[str, str | None]
) -> None:
    resume(ledger, submit_one(ledger, hive, **states))
    assert (started, load_only_status(ledger).state) == ([], ProcessState.SUBMITTED)


@pytest.mark.parametrize("report", ["success", "failed", "skipped"])
def test_a_process_of_a_run_that_is_over_has_an_outcome(
    ledger: Ledger, hive: PracticeHive, report: str
) -> None:
    run = submit_one(ledger, hive, dump_wait="failed", report=report)
    for _ in range(2):
        resume(ledger, run)
    status = load_only_status(ledger)
    assert status.state == ProcessState.UNKNOWN
    assert "no task waits for the outcome: the task dump.wait ended as failed" in str(status.error)
    assert [key for key, step in list_reports(ledger) if step == "process_finished"] == ["report.fatal"]


def test_a_process_whose_wait_was_deleted_has_an_outcome(ledger: Ledger, hive: PracticeHive) -> None:
    run = submit_one(ledger, hive)
    del run.states["dump.wait"]
    resume(ledger, run)
    assert "the task dump.wait was deleted" in str(load_only_status(ledger).error)


def test_a_deleted_wait_leaves_no_other_process_without_an_outcome(
    ledger: Ledger, hive: PracticeHive
) -> None:
    """Airflow never runs `report` without one of its upstream tasks, also if the other submit fails later."""
    run = accept(ledger, [(ASSEMBLY, [(name, hive.conn_id, ANALYSIS) for name in ("dump", "late")])])
    submit(run)
    start_attempt(ledger, "dump", [load_run_statuses(ledger, RUN_ID)[0].event_id], "try1")
    run.states = {"route": "success", "late.submit": "up_for_retry", "late.wait": None, "report": None}
    resume(ledger, run)
    assert load_states(ledger) == {(0, "dump"): "unknown", (0, "late"): "planned"}
    run.states |= {"late.submit": "failed", "late.wait": "upstream_failed"}
    resume(ledger, run)
    assert load_states(ledger) == {(0, "dump"): "unknown", (0, "late"): "not_submitted"}


def test_an_interrupted_stop_is_finished(ledger: Ledger, hive: PracticeHive) -> None:
    run = submit_one(ledger, hive, dump_wait="failed")
    request_stop(ledger, "dump", [load_only_status(ledger).event_id], "try1")
    resume(ledger, run)
    assert hive.fetch_rows("SELECT status FROM job") == [("DONE",)]
    assert load_only_status(ledger).state == ProcessState.STOPPED


def test_an_event_of_a_run_that_ended_without_a_plan_is_rejected(ledger: Ledger) -> None:
    run = accept(ledger, [(ASSEMBLY, [])])
    run.states |= {"route": "failed", "report": "failed"}
    resume(ledger, run)
    assert list_rejected(ledger) == {0: "the run ended without a plan: see the log of its task route"}
    assert list_reports(ledger) == [("report.fatal", "rejected")]


def test_a_run_that_cannot_be_resumed_does_not_prevent_the_others(
    ledger: Ledger, make_hive: MakeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumption, "list_open_runs", lambda *_: {"broken": set(), RUN_ID: {"dump"}})
    run = submit_one(ledger, make_hive("mysql"), dump_wait="failed", report="failed")

    def fail(ledger: Ledger, run_id: str) -> None:
        raise RuntimeError(f"run {run_id} could not be started")

    monkeypatch.setattr(runs, "start_run", fail)
    with pytest.raises(RuntimeError, match="run broken could not be started"):
        resume(ledger, run)
    assert load_only_status(ledger).state == ProcessState.UNKNOWN


async def test_a_run_that_is_started_again_waits_for_the_same_jobs_and_repeats_none(
    ledger: Ledger, make_hive: MakeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first job has failed before a user deleted the run; only a clear of the new run resets it."""
    hive, triggerer = make_hive("mysql"), Triggerer(monkeypatch)
    place = ("dump", hive.conn_id, ANALYSIS)
    run = accept(ledger, [({**ASSEMBLY, "practice": {"fail": "entry"}}, [place]), (ASSEMBLY, [place])])
    submit(run)
    hive.run_jobs()
    hive.execute("UPDATE job SET status = 'RUN' WHERE status = 'DONE' AND prev_job_id IS NULL")
    first = asyncio.create_task(wait(triggerer))
    await wait_until(lambda: set(load_states(ledger).values()) == {"failed", "submitted"})
    first.cancel()
    run.states = {}
    resume(ledger, run)
    second = asyncio.create_task(wait(triggerer, "try2"))
    await asyncio.sleep(0.5)
    assert ("FAILED",) in hive.fetch_rows("SELECT status FROM job")
    hive.complete_jobs("status = 'RUN'")
    assert isinstance(await second, TaskFailedEvent)
    assert sorted(load_states(ledger).values()) == ["complete", "failed"]
    assert [key for key, step in list_reports(ledger) if step == "process_finished"] == [
        "report.fatal",
        "report.info",
    ]
    await asyncio.wait([asyncio.create_task(wait(triggerer, "try3"))], timeout=1)
    assert ("READY",) in hive.fetch_rows("SELECT status FROM job")
