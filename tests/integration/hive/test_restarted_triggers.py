"""Restarted triggers: after a restart, in a second triggerer, after a clear."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent, TriggerEvent

from event_hooks.hive.trigger import HiveJobTrigger
from event_hooks.hive.wait_state import WaitState, parse_wait_state
from tests.integration.hive.conftest import submit_jobs
from tests.integration.hive.test_poller import LIMIT
from tests.integration.hives import PracticeHive


class RecordingTrigger(HiveJobTrigger):
    """A trigger that stores its XComs in a list, because no Airflow runs here."""

    def __init__(
        self, hive: PracticeHive, job_ids: list[int], xcoms: list[str], task_instance_id: str
    ) -> None:
        super().__init__(hive.conn_id, job_ids, 3600)
        self.xcoms = xcoms
        self._task_instance_id = task_instance_id

    @property
    def task_instance_id(self) -> str:
        return self._task_instance_id

    async def _load_return_value(self) -> str | None:
        return self.xcoms[-1] if self.xcoms else None

    async def _store_xcom(self, key: str, value: str) -> None:
        assert key == "return_value"
        self.xcoms.append(value)

    async def run_to_end(self) -> TriggerEvent:
        """Run to the end, and store the XCom as Airflow would."""
        async with asyncio.timeout(LIMIT):
            (event,) = [event async for event in self.run()]
        assert isinstance(event, TaskSuccessEvent | TaskFailedEvent)
        assert event.xcoms
        value = event.xcoms["return_value"]
        assert isinstance(value, str)
        self.xcoms.append(value)
        return event


@pytest.fixture
def hive(make_hive: Callable[..., PracticeHive], monkeypatch: pytest.MonkeyPatch) -> PracticeHive:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__POLL_INTERVAL", "0.05")
    return make_hive("mysql")


async def fail_job(hive: PracticeHive, **practice: Any) -> tuple[list[int], list[str]]:
    """Return a failed job, and the XComs of its wait."""
    job_ids, xcoms = submit_jobs(hive, fail_until_reset="entry", **practice), list[str]()
    await asyncio.to_thread(hive.run_jobs)
    assert isinstance(await RecordingTrigger(hive, job_ids, xcoms, "first").run_to_end(), TaskFailedEvent)
    return job_ids, xcoms


async def test_a_wait_in_a_second_triggerer_has_the_same_outcome(hive: PracticeHive) -> None:
    job_ids, xcoms = await fail_job(hive)
    assert isinstance(await RecordingTrigger(hive, job_ids, xcoms, "first").run_to_end(), TaskFailedEvent)
    assert hive.fetch_rows("SELECT status FROM job") == [("FAILED",)]
    assert xcoms[-1] == xcoms[-2]


async def test_a_cleared_wait_resets_failed_jobs(hive: PracticeHive) -> None:
    job_ids, xcoms = await fail_job(hive)
    second_wait = asyncio.create_task(RecordingTrigger(hive, job_ids, xcoms, "second").run_to_end())
    async with asyncio.timeout(LIMIT):
        while hive.fetch_rows("SELECT status FROM job") != [("READY",)]:
            await asyncio.sleep(0.02)
    await asyncio.to_thread(hive.run_jobs)
    assert isinstance(await second_wait, TaskSuccessEvent)


async def test_a_restarted_wait_keeps_its_start_time(hive: PracticeHive) -> None:
    state = WaitState(reported_stalls={"excluded: x"}, task_instance_id="first")
    job_ids, xcoms = submit_jobs(hive), [state.to_json()]
    first_state = parse_wait_state(xcoms[0])
    assert first_state
    await asyncio.to_thread(hive.run_jobs)
    assert isinstance(await RecordingTrigger(hive, job_ids, xcoms, "first").run_to_end(), TaskSuccessEvent)
    last_state = parse_wait_state(xcoms[-1])
    assert last_state
    assert (last_state.since, last_state.reported_stalls) == (first_state.since, first_state.reported_stalls)


async def test_a_finished_wait_state_is_not_overwritten(hive: PracticeHive) -> None:
    job_ids, xcoms = await fail_job(hive)
    final_xcom = xcoms[-1]
    await RecordingTrigger(hive, job_ids, xcoms, "first")._store_state(WaitState(task_instance_id="first"))
    assert xcoms[-1] == final_xcom
