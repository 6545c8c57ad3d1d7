"""Waiting for jobs: in an event loop, as in a triggerer."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from airflow.jobs.triggerer_job_runner import TriggerEventEntry, messages
from airflow.sdk.execution_time.comms import _RequestFrame
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent
from sqlalchemy import event

from event_hooks.hive import poller
from event_hooks.hive.sql import job_trees
from event_hooks.hive.sql.job_trees import JobForest, State
from event_hooks.hive.trigger import HiveJobTrigger
from tests.integration.hive.conftest import submit, until_over
from tests.integration.hives import PracticeHive
from tests.support.practice_hive.worker import Worker

LIMIT = 20

pytestmark = pytest.mark.usefixtures("quick")


def format_message(ended: TaskSuccessEvent | TaskFailedEvent) -> dict[str, Any]:
    """Give what a trigger left as the XCom of its task."""
    assert ended.xcoms
    text = ended.xcoms["return_value"]
    assert isinstance(text, str)
    assert text.isascii()
    content: dict[str, Any] = json.loads(text)
    return content


@pytest.fixture
async def beekeeper(hive: PracticeHive) -> AsyncIterator[None]:
    """A worker that does the hive's jobs meanwhile."""
    stop = threading.Event()
    work = asyncio.create_task(asyncio.to_thread(Worker(hive.url).run, stop))
    yield
    stop.set()
    await work


@pytest.mark.usefixtures("beekeeper")
async def test_a_trigger_ends_its_task_with_the_outcomes(hive: PracticeHive) -> None:
    job_ids = submit(hive, 3)
    trigger = HiveJobTrigger(hive.conn_id, str(job_ids), 3600)
    async with asyncio.timeout(LIMIT):
        (ended,) = [event async for event in trigger.run()]
    assert isinstance(ended, TaskSuccessEvent)
    outcomes = format_message(ended)["outcomes"]
    assert [outcome["job_id"] for outcome in outcomes] == job_ids
    assert [outcome["result"]["genome"] for outcome in outcomes] == ["genome_0", "genome_1", "genome_2"]


@pytest.mark.usefixtures("beekeeper")
async def test_one_failed_job_fails_the_task_and_keeps_the_others_outcomes(hive: PracticeHive) -> None:
    job_ids = submit(hive, 1) + submit(hive, 1, fail="child")
    async with asyncio.timeout(LIMIT):
        (ended,) = [event async for event in HiveJobTrigger(hive.conn_id, job_ids, 3600).run()]
    assert isinstance(ended, TaskFailedEvent)
    assert [outcome["state"] for outcome in format_message(ended)["outcomes"]] == ["complete", "failed"]


async def test_all_who_wait_are_asked_for_together(
    make_hive: Callable[..., PracticeHive], monkeypatch: pytest.MonkeyPatch
) -> None:
    hive = make_hive("mysql")
    looks: list[int] = []
    look = JobForest.look

    def counted(forest: JobForest, connection: Any, entries: Any) -> Any:
        looks.append(len(entries))
        return look(forest, connection, entries)

    monkeypatch.setattr(JobForest, "look", counted)
    waiting = [HiveJobTrigger(hive.conn_id, [job_id], 3600).run() for job_id in submit(hive, 20)]
    tasks = [asyncio.ensure_future(anext(events)) for events in waiting]
    async with asyncio.timeout(LIMIT):
        while len(looks) < 3:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(hive.work)
        await asyncio.gather(*tasks)
    assert set(looks[:3]) == {20}


async def test_two_triggers_of_one_job_both_learn_of_its_end(hive: PracticeHive) -> None:
    (job_id,) = submit(hive)
    waits = [until_over(hive, [job_id]) for _ in range(2)]
    tasks = [asyncio.create_task(wait) for wait in waits]
    await asyncio.to_thread(hive.work)
    async with asyncio.timeout(LIMIT):
        one, other = await asyncio.gather(*tasks)
    assert one == other
    assert one[0].state is State.COMPLETE


async def test_who_stops_waiting_leaves_the_others_waiting(hive: PracticeHive) -> None:
    job_ids = submit(hive, 2)
    leaves, stays = (asyncio.create_task(until_over(hive, [job_id])) for job_id in job_ids)
    await asyncio.sleep(0.2)
    leaves.cancel()
    await asyncio.to_thread(hive.work)
    async with asyncio.timeout(LIMIT):
        assert [outcome.job_id for outcome in await stays] == job_ids[1:]


async def test_waiting_outlasts_a_hive_that_breaks_off(
    make_hive: Callable[..., PracticeHive], monkeypatch: pytest.MonkeyPatch
) -> None:
    hive = make_hive("mysql")
    monkeypatch.setattr(poller, "MAX_PAUSE", 0.1)
    wait = asyncio.create_task(until_over(hive, submit(hive)))
    for _ in range(3):
        await asyncio.sleep(0.2)
        mine = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        for (connection_id,) in hive.rows(mine):
            hive.change(f"KILL {connection_id}")
    assert not wait.done()
    await asyncio.to_thread(hive.work)
    async with asyncio.timeout(LIMIT):
        assert (await wait)[0].state is State.COMPLETE


@pytest.mark.parametrize("lacks", ["its table", "its connection"])
async def test_waiting_outlasts_a_hive_that_cannot_be_read_for_a_while(
    make_hive: Callable[..., PracticeHive], monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    hive = make_hive("sqlite")
    monkeypatch.setattr(poller, "MAX_PAUSE", 0.1)
    job_ids = submit(hive)
    await asyncio.to_thread(hive.work)
    with monkeypatch.context() as meanwhile:
        if lacks == "its connection":
            meanwhile.delenv(f"AIRFLOW_CONN_{hive.conn_id.upper()}")
        else:
            hive.change("ALTER TABLE job RENAME TO elsewhere")
        wait = asyncio.create_task(until_over(hive, job_ids))
        await asyncio.sleep(0.5)
        assert not wait.done()
    if lacks == "its table":
        hive.change("ALTER TABLE elsewhere RENAME TO job")
    async with asyncio.timeout(LIMIT):
        assert (await wait)[0].state is State.COMPLETE


async def test_a_hive_that_cannot_be_read_for_long_fails_who_waits_and_says_why(
    make_hive: Callable[..., PracticeHive], monkeypatch: pytest.MonkeyPatch
) -> None:
    hive = make_hive("sqlite")
    monkeypatch.setattr(poller, "PATIENCE", 0.0)
    job_ids = submit(hive)
    hive.change("ALTER TABLE job RENAME TO elsewhere")
    async with asyncio.timeout(LIMIT):
        (ended,) = [event async for event in HiveJobTrigger(hive.conn_id, job_ids, 3600).run()]
    assert isinstance(ended, TaskFailedEvent)
    assert "no such table: job" in format_message(ended)["error"]


@pytest.mark.parametrize(
    "result",
    ['{"n": 123456789012345678901234567890}', '{"s": "\\ud83d"}', '{"s": "\\u0000"}', "[" * 5000, "[NaN]"],
    ids=["large number", "lone surrogate", "nul", "deep", "nan"],
)
async def test_no_result_breaks_the_triggerer(make_hive: Callable[..., PracticeHive], result: str) -> None:
    """What a trigger yields goes through msgpack to the triggerer's parent process."""
    hive = make_hive("mysql")
    job_ids = submit(hive, result=result)
    await asyncio.to_thread(hive.work)
    async with asyncio.timeout(LIMIT):
        (ended,) = [event async for event in HiveJobTrigger(hive.conn_id, job_ids, 3600).run()]
    assert isinstance(ended, TaskSuccessEvent)
    changes = messages.TriggerStateChanges(events=[TriggerEventEntry(1, ended, None)])
    assert _RequestFrame(id=1, body=changes.model_dump()).as_bytes()
    assert format_message(ended)["outcomes"][0]["state"] == "complete"


async def test_a_finished_poller_starts_again(hive: PracticeHive) -> None:
    for _ in range(3):
        job_ids = submit(hive)
        await asyncio.to_thread(hive.work)
        async with asyncio.timeout(LIMIT):
            assert (await until_over(hive, job_ids))[0].state is State.COMPLETE


async def test_a_look_costs_a_statement_a_level(hive: PracticeHive) -> None:
    job_ids = submit(hive, 8, parts=3)
    await asyncio.to_thread(hive.work)
    statements: list[str] = []
    event.listen(hive.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    with hive.engine.connect() as connection:
        read = job_trees.read(connection, job_ids)
    assert {len(tree.statuses) for tree in read.values()} == {5}
    assert len(statements) == 2
