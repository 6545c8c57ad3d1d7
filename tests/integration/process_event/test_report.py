"""The task `report`: outcomes that no other task recorded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from event_hooks.exceptions import HiveUnreachable, RunFailed
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import load_run, load_run_events
from event_hooks.ledger.outcomes import request_stop, start_attempt, store_outcomes
from event_hooks.ledger.processes import load_run_statuses
from event_hooks.ledger.records import ProcessOutcome, ProcessState
from event_hooks.process_event import recording
from event_hooks.process_event import report as report_module
from event_hooks.process_event.report import ReportOperator
from tests.integration.hives import PracticeHive
from tests.integration.process_event.conftest import (
    ANALYSIS,
    RUN_ID,
    TASKS,
    accept,
    list_rejected,
    list_reports,
    load_only_status,
    submit,
)
from tests.support.task_instances import RunOfTasks

pytestmark = pytest.mark.usefixtures("queue")

ASSEMBLY: dict[str, Any] = {"type": "new_assembly"}


def report(run: RunOfTasks) -> list[str]:
    """Run the task, and return the failures that it lists."""
    try:
        ReportOperator(task_id="report", emits={}).execute(run.build_context("report"))
    except RunFailed as error:
        return str(error).splitlines()[1:]
    return []


def submit_one(ledger: Ledger, hive: PracticeHive, **states: str) -> RunOfTasks:
    """Submit the job of one event; ``dump_wait="failed"`` sets the state of that task."""
    run = accept(ledger, [(ASSEMBLY, [("dump", hive.conn_id, ANALYSIS)])])
    submit(run)
    run.states |= {"route": "success", "dump.submit": "success"}
    run.states |= {name.replace("_", "."): state for name, state in states.items()}
    return run


def stop_requested(ledger: Ledger) -> None:
    status = load_only_status(ledger)
    start_attempt(ledger, "dump", [status.event_id], "try1")
    request_stop(ledger, "dump", [status.event_id], "try1")


def test_events_that_were_never_planned_are_rejected(ledger: Ledger) -> None:
    run = accept(ledger, [(ASSEMBLY, [])])
    run.states |= {"route": "failed", "dump.submit": "upstream_failed", "dump.wait": "upstream_failed"}
    run.xcoms["route", "error"] = "ledger 'event_ledger' is unavailable"
    for _ in range(2):
        assert report(run) == ["- event 1 was rejected: ledger 'event_ledger' is unavailable"]
    assert list_rejected(ledger) == {0: "ledger 'event_ledger' is unavailable"}
    assert list_reports(ledger) == [("report.fatal", "rejected")]


def test_a_job_of_a_run_that_was_never_planned_is_no_success(ledger: Ledger, hive: PracticeHive) -> None:
    run = submit_one(ledger, hive, route="failed", dump_wait="upstream_failed")
    report(run)
    assert load_only_status(ledger).state == ProcessState.UNKNOWN
    assert ("report.fatal", "process_finished") in list_reports(ledger)


def test_events_of_a_triggered_run_whose_route_was_marked_as_failed_are_in_the_ledger(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunOfTasks(RUN_ID, {"type": "new_assembly", "genome": "g"}, dict.fromkeys(TASKS, "upstream_failed"))
    run.states["route"] = "failed"
    report(run)
    assert list_rejected(ledger) == {0: "the task route ended as failed, without a plan: see its log"}


def test_an_invalid_conf_is_reported_and_not_stored(ledger: Ledger) -> None:
    run = RunOfTasks(RUN_ID, {"type": "unknown_type"}, {"route": "failed", "report": None})
    assert report(run) == ["- the task route failed: see its log"]
    assert load_run_events(ledger, RUN_ID) == []
    assert list_reports(ledger) == [("report.fatal", "rejected")]


def test_an_error_of_submit_is_reported_again_after_it_was_cleared(ledger: Ledger) -> None:
    run = accept(ledger, [(ASSEMBLY, [("dump", "no_such_hive", ANALYSIS)])])
    run.states |= {"route": "success", "dump.submit": "failed", "dump.wait": "upstream_failed"}
    for _ in range(2):
        with pytest.raises(HiveUnreachable):
            submit(run)
        report(run)
        report(run)
    assert [key for key, step in list_reports(ledger) if step == "process_finished"] == ["report.fatal"] * 2
    assert load_only_status(ledger).state == ProcessState.NOT_SUBMITTED


def test_one_rejected_event_of_a_run_fails_it(ledger: Ledger) -> None:
    run = accept(ledger, [(ASSEMBLY, []), ({"type": "no_process"}, [])])
    recording.record_rejections(ledger, load_run(ledger, RUN_ID), {1: "type: expected one of new_assembly"})
    run.states |= {"route": "success", "dump.submit": "skipped", "dump.wait": "skipped"}
    (event_id,) = [event.id for event in load_run_events(ledger, RUN_ID) if event.position == 1]
    assert report(run) == [f"- event {event_id} was rejected: type: expected one of new_assembly"]


def test_a_process_that_was_removed_while_its_job_ran_fails_the_run(
    ledger: Ledger, hive: PracticeHive
) -> None:
    run = submit_one(ledger, hive, dump_wait="removed")
    (failure,) = report(run)
    assert failure.endswith(
        "unknown: the process was removed from the lookup while its job ran, and no task waits: see its hive"
    )


def test_a_run_without_failures_succeeds(ledger: Ledger, hive: PracticeHive) -> None:
    run = submit_one(ledger, hive, dump_wait="success")
    outcome = ProcessOutcome(load_only_status(ledger).event_id, ProcessState.COMPLETE)
    store_outcomes(ledger, "dump", [outcome], "", [], [])
    assert report(run) == []


def test_a_wait_that_was_marked_as_success_is_a_warning(ledger: Ledger, hive: PracticeHive) -> None:
    assert report(submit_one(ledger, hive, dump_wait="success")) == []
    assert load_only_status(ledger).state == ProcessState.UNKNOWN
    assert ("report.warn", "process_finished") in list_reports(ledger)


def test_an_outcome_is_recorded_although_a_trigger_starts_late(
    ledger: Ledger, hive: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user has marked a wait as success before its trigger had started; only that trigger may write now."""
    run = submit_one(ledger, hive, dump_wait="success")
    record = recording.record_missing_outcomes

    def start_and_record(*args: Any, **kwargs: Any) -> None:
        start_attempt(ledger, "dump", [load_only_status(ledger).event_id], "try2")
        record(*args, **kwargs)

    monkeypatch.setattr(recording, "record_missing_outcomes", start_and_record)
    assert report(run) == []
    assert load_only_status(ledger).state == ProcessState.UNKNOWN
    assert ("report.warn", "process_finished") in list_reports(ledger)


def test_a_requested_stop_is_finished(ledger: Ledger, hive: PracticeHive) -> None:
    run = submit_one(ledger, hive, dump_wait="failed")
    stop_requested(ledger)
    report(run)
    assert hive.fetch_rows("SELECT status FROM job") == [("DONE",)]
    status = load_only_status(ledger)
    assert (status.state, status.stop_requested_at) == (ProcessState.STOPPED, None)
    assert "stopped by a user" in str(status.error)
    assert list_reports(ledger)[-2:] == [
        ("report.fatal", "process_finished"),
        ("report.info", "event_finished"),
    ]


async def test_a_stop_that_is_requested_late_is_finished(ledger: Ledger, hive: PracticeHive) -> None:
    """Airflow starts `report` as soon as a user has marked the wait; its trigger may be slower."""
    run = submit_one(ledger, hive, dump_wait="failed")
    start_attempt(ledger, "dump", [load_only_status(ledger).event_id], "try1")
    reporting = asyncio.create_task(asyncio.to_thread(report, run))
    await asyncio.sleep(1.5)
    assert not reporting.done()
    request_stop(ledger, "dump", [load_only_status(ledger).event_id], "try1")
    await reporting
    assert load_only_status(ledger).state == ProcessState.STOPPED


def test_a_failed_wait_without_a_request_stops_no_job(
    ledger: Ledger, hive: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_module, "STOP_GRACE_SECONDS", 0.0)
    run = submit_one(ledger, hive, dump_wait="failed")
    start_attempt(ledger, "dump", [load_only_status(ledger).event_id], "try1")
    report(run)
    assert hive.fetch_rows("SELECT status FROM job") == [("READY",)]
    (status,) = load_run_statuses(ledger, RUN_ID)
    assert (status.state, status.error) == (
        ProcessState.UNKNOWN,
        "the wait ended as failed before it recorded an outcome: see its log",
    )


def test_a_stop_in_an_unreachable_hive_is_retried(
    ledger: Ledger, hive: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submit_one(ledger, hive, dump_wait="failed")
    stop_requested(ledger)
    with monkeypatch.context() as patch:
        patch.delenv(f"AIRFLOW_CONN_{hive.conn_id.upper()}")
        with pytest.raises(HiveUnreachable):
            report(run)
    assert load_only_status(ledger).state == ProcessState.SUBMITTED
    report(run)
    assert load_only_status(ledger).state == ProcessState.STOPPED
