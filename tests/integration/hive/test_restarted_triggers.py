"""Restarted triggers: after a restart, in a second triggerer, after a clear, after a mark."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent

from event_hooks.hive.trigger import HiveJobTrigger
from event_hooks.hive.wait_summary import WaitSummary
from tests.integration.hive.conftest import submit_jobs
from tests.integration.hives import PracticeHive
from tests.support.triggerer import LIMIT_SECONDS, EndEvent, Triggerer

TASK = ("run", "wait")


@pytest.fixture
def hive(make_hive: Callable[..., PracticeHive], monkeypatch: pytest.MonkeyPatch) -> PracticeHive:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__POLL_INTERVAL", "0.05")
    return make_hive("mysql")


@pytest.fixture
def triggerer(monkeypatch: pytest.MonkeyPatch) -> Triggerer:
    return Triggerer(monkeypatch)


def build_trigger(triggerer: Triggerer, hive: PracticeHive, job_ids: list[int], ti_id: str) -> HiveJobTrigger:
    trigger = HiveJobTrigger(hive.conn_id, job_ids, 3600)
    triggerer.assign(trigger, *TASK, ti_id)
    return trigger


async def wait(triggerer: Triggerer, hive: PracticeHive, job_ids: list[int], ti_id: str) -> EndEvent:
    return await triggerer.run(build_trigger(triggerer, hive, job_ids, ti_id))


async def fail_job(triggerer: Triggerer, hive: PracticeHive, **practice: Any) -> list[int]:
    """Return a failed job, for which a task has waited."""
    job_ids = submit_jobs(hive, fail_until_reset="entry", **practice)
    await asyncio.to_thread(hive.run_jobs)
    assert isinstance(await wait(triggerer, hive, job_ids, "first"), TaskFailedEvent)
    return job_ids


async def test_a_wait_in_a_second_triggerer_has_the_same_outcome(
    triggerer: Triggerer, hive: PracticeHive
) -> None:
    job_ids = await fail_job(triggerer, hive)
    first = triggerer.read_summary(*TASK)
    assert isinstance(await wait(triggerer, hive, job_ids, "first"), TaskFailedEvent)
    assert hive.fetch_rows("SELECT status FROM job") == [("FAILED",)]
    assert triggerer.read_summary(*TASK) == first


async def test_a_cleared_wait_resets_failed_jobs(triggerer: Triggerer, hive: PracticeHive) -> None:
    job_ids = await fail_job(triggerer, hive)
    second_wait = asyncio.create_task(wait(triggerer, hive, job_ids, "second"))
    async with asyncio.timeout(LIMIT_SECONDS):
        while hive.fetch_rows("SELECT status FROM job") != [("READY",)]:
            await asyncio.sleep(0.02)
    await asyncio.to_thread(hive.run_jobs)
    assert isinstance(await second_wait, TaskSuccessEvent)


async def test_a_restarted_wait_keeps_its_start_time(triggerer: Triggerer, hive: PracticeHive) -> None:
    job_ids, summary = submit_jobs(hive), WaitSummary.start("first")
    triggerer.xcoms[*TASK, "return_value"] = summary.to_json()
    await asyncio.to_thread(hive.run_jobs)
    assert isinstance(await wait(triggerer, hive, job_ids, "first"), TaskSuccessEvent)
    assert triggerer.read_summary(*TASK)["since"] == summary.since


async def test_a_kill_after_the_end_in_another_triggerer_stops_no_job(
    triggerer: Triggerer, hive: PracticeHive
) -> None:
    """A failed tree may have SEMAPHORED jobs, which a stop would finish."""
    job_ids = submit_jobs(hive, fail="child")
    await asyncio.to_thread(hive.run_jobs)
    assert isinstance(await wait(triggerer, hive, job_ids, "first"), TaskFailedEvent)
    before = hive.fetch_rows("SELECT job_id, status FROM job ORDER BY job_id")
    await build_trigger(triggerer, hive, job_ids, "first").on_kill()
    assert hive.fetch_rows("SELECT job_id, status FROM job ORDER BY job_id") == before
    assert "SEMAPHORED" in {status for _, status in before}


async def test_a_stop_ends_although_it_is_cancelled_every_few_milliseconds(
    triggerer: Triggerer, hive: PracticeHive
) -> None:
    """Airflow 3.3.2 cancels on_kill again with every sync."""
    job_ids = submit_jobs(hive)
    triggerer.states[TASK] = "failed"
    kill = asyncio.create_task(build_trigger(triggerer, hive, job_ids, "first").on_kill())
    await asyncio.sleep(0)
    while not kill.done():
        kill.cancel()
        await asyncio.sleep(0.005)
    assert hive.fetch_rows("SELECT status FROM job") == [("DONE",)]
    (error,) = triggerer.read_summary(*TASK)["errors"]
    assert error == f"the task was marked as failed; stopped before they started: job {job_ids[0]}; " + (
        "still running: no job"
    )
