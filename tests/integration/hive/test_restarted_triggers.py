"""A trigger that Airflow starts again: after a restart, in a second triggerer, after a clear."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent, TriggerEvent

from event_hooks.hive.trigger import HiveJobTrigger
from event_hooks.hive.wait_state import WaitState, loads
from tests.integration.hive.conftest import submit
from tests.integration.hive.test_poller import LIMIT
from tests.integration.hives import PracticeHive


class Remembered(HiveJobTrigger):
    """A trigger whose XCom is a list, since there is no Airflow here to keep it."""

    def __init__(self, hive: PracticeHive, job_ids: list[int], kept: list[str], ti: str) -> None:
        super().__init__(hive.conn_id, job_ids, 3600)
        self.kept = kept
        self.ti = ti

    def _ti_id(self) -> str:
        return self.ti

    async def _left(self) -> str | None:
        return self.kept[-1] if self.kept else None

    async def _keep(self, key: str, value: str) -> None:
        assert key == "return_value"
        self.kept.append(value)

    async def ended(self) -> TriggerEvent:
        """Run to the end, and keep what Airflow would keep."""
        async with asyncio.timeout(LIMIT):
            (event,) = [event async for event in self.run()]
        assert isinstance(event, TaskSuccessEvent | TaskFailedEvent)
        assert event.xcoms
        value = event.xcoms["return_value"]
        assert isinstance(value, str)
        self.kept.append(value)
        return event


@pytest.fixture
def hive(make_hive: Callable[..., PracticeHive], monkeypatch: pytest.MonkeyPatch) -> PracticeHive:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__POLL_INTERVAL", "0.05")
    return make_hive("mysql")


async def failed(hive: PracticeHive, **practice: Any) -> tuple[list[int], list[str]]:
    """Give a job that failed, and what its wait left."""
    job_ids, kept = submit(hive, fail_until_reset="entry", **practice), list[str]()
    await asyncio.to_thread(hive.work)
    assert isinstance(await Remembered(hive, job_ids, kept, "first").ended(), TaskFailedEvent)
    return job_ids, kept


async def test_the_same_wait_in_a_second_triggerer_ends_as_the_first(hive: PracticeHive) -> None:
    job_ids, kept = await failed(hive)
    assert isinstance(await Remembered(hive, job_ids, kept, "first").ended(), TaskFailedEvent)
    assert hive.rows("SELECT status FROM job") == [("FAILED",)]
    assert kept[-1] == kept[-2]


async def test_a_cleared_wait_lets_what_failed_run_again(hive: PracticeHive) -> None:
    job_ids, kept = await failed(hive)
    again = asyncio.create_task(Remembered(hive, job_ids, kept, "second").ended())
    async with asyncio.timeout(LIMIT):
        while hive.rows("SELECT status FROM job") != [("READY",)]:
            await asyncio.sleep(0.02)
    await asyncio.to_thread(hive.work)
    assert isinstance(await again, TaskSuccessEvent)


async def test_a_restarted_wait_goes_on_from_when_it_began(hive: PracticeHive) -> None:
    job_ids, kept = submit(hive), [WaitState(told={"excluded: x"}, ti="first").dumps()]
    began = loads(kept[0])
    assert began
    await asyncio.to_thread(hive.work)
    assert isinstance(await Remembered(hive, job_ids, kept, "first").ended(), TaskSuccessEvent)
    ended = loads(kept[-1])
    assert ended
    assert (ended.since, ended.told) == (began.since, began.told)


async def test_nothing_is_left_over_the_end_of_a_wait(hive: PracticeHive) -> None:
    job_ids, kept = await failed(hive)
    end = kept[-1]
    await Remembered(hive, job_ids, kept, "first")._leave(WaitState(ti="first"))
    assert kept[-1] == end
