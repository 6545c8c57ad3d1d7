"""Stopping jobs because a user marked the task `wait` as failed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from event_hooks.hive.hook import HiveHook
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import load_run
from event_hooks.ledger.outcomes import request_stop, start_attempt
from event_hooks.ledger.records import ProcessState
from event_hooks.process_event.planning import build_tokens
from event_hooks.process_event.stopping import finish_stop
from tests.integration.hive.conftest import is_waiting_for_lock, wait_until
from tests.integration.hives import PracticeHive
from tests.integration.process_event.conftest import (
    ANALYSIS,
    RUN_ID,
    accept,
    build_trigger,
    list_reports,
    load_only_status,
    submit,
    wait,
)
from tests.support.triggerer import Triggerer

pytestmark = pytest.mark.usefixtures("queue")


def start_wait(ledger: Ledger, hive: PracticeHive, triggerer: Triggerer, **practice: Any) -> None:
    """Submit a job, and let an attempt wait for it that a user then marks as failed."""
    event = {"type": "new_assembly", "practice": practice}
    submit(accept(ledger, [(event, [("dump", hive.conn_id, ANALYSIS)])]))
    start_attempt(ledger, "dump", [load_only_status(ledger).event_id], "try1")
    triggerer.states[RUN_ID, "dump.wait"] = "failed"


async def kill(triggerer: Triggerer, *, cancel_seconds: float | None = None) -> None:
    """Call on_kill, and cancel it again and again, as Airflow 3.3.2 does."""
    task = asyncio.create_task(build_trigger(triggerer).on_kill())
    await asyncio.sleep(0)
    while not task.done():
        if cancel_seconds:
            task.cancel()
        await asyncio.sleep(cancel_seconds or 0.02)
    task.result()


async def test_a_mark_as_failed_stops_the_jobs(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    start_wait(ledger, hive, triggerer)
    await kill(triggerer)
    assert hive.fetch_rows("SELECT status FROM job") == [("DONE",)]
    status = load_only_status(ledger)
    assert (status.state, status.stop_requested_at) == (ProcessState.STOPPED, None)
    assert list_reports(ledger)[-1] == ("report.fatal", "process_finished")


async def test_a_slow_stop_is_finished_although_it_is_cancelled_repeatedly(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_jobs = HiveHook.stop_jobs

    def stop_slowly(*arguments: Any) -> Any:
        time.sleep(1)
        return stop_jobs(*arguments)

    monkeypatch.setattr(HiveHook, "stop_jobs", stop_slowly)
    start_wait(ledger, hive, triggerer)
    await kill(triggerer, cancel_seconds=0.05)
    assert load_only_status(ledger).state == ProcessState.STOPPED


async def test_the_request_to_stop_is_stored_before_the_stop(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hive is unavailable, so `report` or `maintain_ledger` finish the stop later."""
    start_wait(ledger, hive, triggerer)
    monkeypatch.delenv(f"AIRFLOW_CONN_{hive.conn_id.upper()}")
    await kill(triggerer)
    status = load_only_status(ledger)
    assert status.state == ProcessState.SUBMITTED
    assert status.stop_requested_at is not None


def test_finishing_a_stop_logs_the_jobs_that_the_trigger_has_stopped(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer, caplog: pytest.LogCaptureFixture
) -> None:
    start_wait(ledger, hive, triggerer)
    status = load_only_status(ledger)
    request_stop(ledger, "dump", [status.event_id], "try1")
    status, run = load_only_status(ledger), load_run(ledger, RUN_ID)
    jobs = build_tokens(RUN_ID, [status])
    HiveHook(hive.conn_id).stop_jobs(jobs)
    finish_stop(ledger, run, [status], {})
    assert f"Job {status.job_id}: stopped by a user: 1 of its jobs never ran" in caplog.text


async def test_the_end_of_the_task_in_another_triggerer_stops_no_job(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    """A failed tree may have SEMAPHORED jobs, which a stop would finish."""
    event = {"type": "new_assembly", "practice": {"fail": "child"}}
    submit(accept(ledger, [(event, [("dump", hive.conn_id, ANALYSIS)])]))
    await asyncio.to_thread(hive.run_jobs)
    await wait(triggerer)
    before = hive.fetch_rows("SELECT job_id, status FROM job ORDER BY job_id")
    assert "SEMAPHORED" in {status for _, status in before}
    await kill(triggerer)
    assert hive.fetch_rows("SELECT job_id, status FROM job ORDER BY job_id") == before
    assert load_only_status(ledger).state == ProcessState.FAILED


@pytest.mark.parametrize("state", ["success", "deferred"])
async def test_another_mark_or_a_clear_stops_no_job(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer, state: str
) -> None:
    start_wait(ledger, hive, triggerer)
    triggerer.states[RUN_ID, "dump.wait"] = state
    await kill(triggerer)
    assert hive.fetch_rows("SELECT status FROM job") == [("READY",)]
    assert load_only_status(ledger).stop_requested_at is None


async def test_a_stop_that_waits_in_the_hive_until_the_task_is_cleared_stops_no_job(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    start_wait(ledger, hive, triggerer)
    with hive.engine.begin() as connection:
        connection.exec_driver_sql("SELECT 1 FROM job FOR UPDATE")
        killing = asyncio.create_task(kill(triggerer))
        await asyncio.to_thread(wait_until, lambda: is_waiting_for_lock(hive))
        start_attempt(ledger, "dump", [load_only_status(ledger).event_id], "try2")
    await killing
    assert hive.fetch_rows("SELECT status FROM job") == [("READY",)]
    status = load_only_status(ledger)
    assert (status.state, status.attempt) == (ProcessState.SUBMITTED, "try2")


def test_a_stop_that_another_process_has_finished_meanwhile_is_logged(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer, caplog: pytest.LogCaptureFixture
) -> None:
    start_wait(ledger, hive, triggerer)
    request_stop(ledger, "dump", [load_only_status(ledger).event_id], "try1")
    requested, run = load_only_status(ledger), load_run(ledger, RUN_ID)
    finish_stop(ledger, run, [requested], {})
    caplog.clear()
    finish_stop(ledger, run, [requested], {})
    assert f"Job {requested.job_id}: stopped by a user" in caplog.text
    assert [key for key, step in list_reports(ledger) if step == "process_finished"] == ["report.fatal"]


def test_finishing_a_stop_that_is_withdrawn_meanwhile_stops_no_job(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    start_wait(ledger, hive, triggerer)
    event_ids = [load_only_status(ledger).event_id]
    request_stop(ledger, "dump", event_ids, "try1")
    requested = load_only_status(ledger)
    start_attempt(ledger, "dump", event_ids, "try2")
    finish_stop(ledger, load_run(ledger, RUN_ID), [requested], {})
    assert hive.fetch_rows("SELECT status FROM job") == [("READY",)]
    assert load_only_status(ledger).state == ProcessState.SUBMITTED


async def test_a_stopped_job_runs_after_the_task_was_cleared(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    start_wait(ledger, hive, triggerer)
    await kill(triggerer)
    resumed = asyncio.create_task(wait(triggerer, "try2"))
    while hive.fetch_rows("SELECT status FROM job") != [("READY",)]:
        await asyncio.sleep(0.02)
    await asyncio.to_thread(hive.run_jobs)
    await resumed
    assert load_only_status(ledger).state == ProcessState.COMPLETE
