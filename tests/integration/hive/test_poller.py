"""Waiting for jobs in an event loop, as in a triggerer."""

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
from event_hooks.hive.sql.job_trees import JobForest, JobState
from event_hooks.hive.trigger import HiveJobTrigger
from tests.integration.hive.conftest import submit_jobs, wait_for_outcomes
from tests.integration.hives import PracticeHive
from tests.support.practice_hive.worker import Worker

LIMIT = 20

pytestmark = pytest.mark.usefixtures("fast_polling")


def parse_message(final_event: TaskSuccessEvent | TaskFailedEvent) -> dict[str, Any]:
    """Return the content of the XCom that a trigger stores for its task."""
    assert final_event.xcoms
    text = final_event.xcoms["return_value"]
    assert isinstance(text, str)
    assert text.isascii()
    content: dict[str, Any] = json.loads(text)
    return content


@pytest.fixture
async def beekeeper(hive: PracticeHive) -> AsyncIterator[None]:
    """A worker that runs the jobs of the hive during the test."""
    stop = threading.Event()
    work = asyncio.create_task(asyncio.to_thread(Worker(hive.url).run, stop))
    yield
    stop.set()
    await work


@pytest.mark.usefixtures("beekeeper")
async def test_a_trigger_ends_its_task_with_a_summary_of_the_outcomes(hive: PracticeHive) -> None:
    job_ids = submit_jobs(hive, 3)
    trigger = HiveJobTrigger(hive.conn_id, str(job_ids), 3600)
    async with asyncio.timeout(LIMIT):
        (final_event,) = [event async for event in trigger.run()]
    assert isinstance(final_event, TaskSuccessEvent)
    summary = parse_message(final_event)
    assert (summary["state"], summary["counts"], summary["errors"]) == ("success", {"complete": 3}, [])


@pytest.mark.usefixtures("beekeeper")
async def test_one_failed_job_fails_the_task_with_its_error(hive: PracticeHive) -> None:
    job_ids = submit_jobs(hive, 1) + submit_jobs(hive, 1, fail="child")
    async with asyncio.timeout(LIMIT):
        (final_event,) = [event async for event in HiveJobTrigger(hive.conn_id, job_ids, 3600).run()]
    assert isinstance(final_event, TaskFailedEvent)
    summary = parse_message(final_event)
    assert (summary["state"], summary["counts"]) == ("failed", {"complete": 1, "failed": 1})
    (error,) = summary["errors"]
    assert error.startswith(f"job {job_ids[1]}: ")


async def test_one_poll_serves_all_waiting_triggers(
    make_hive: Callable[..., PracticeHive], monkeypatch: pytest.MonkeyPatch
) -> None:
    hive = make_hive("mysql")
    poll_sizes: list[int] = []
    refresh = JobForest.refresh

    def count_roots(forest: JobForest, connection: Any, root_ids: Any) -> Any:
        poll_sizes.append(len(root_ids))
        return refresh(forest, connection, root_ids)

    monkeypatch.setattr(JobForest, "refresh", count_roots)
    runs = [HiveJobTrigger(hive.conn_id, [job_id], 3600).run() for job_id in submit_jobs(hive, 20)]
    tasks = [asyncio.ensure_future(anext(events)) for events in runs]
    async with asyncio.timeout(LIMIT):
        while len(poll_sizes) < 3:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(hive.run_jobs)
        await asyncio.gather(*tasks)
    assert set(poll_sizes[:3]) == {20}


async def test_two_triggers_of_one_job_both_get_its_outcome(hive: PracticeHive) -> None:
    (job_id,) = submit_jobs(hive)
    waits = [wait_for_outcomes(hive, [job_id]) for _ in range(2)]
    tasks = [asyncio.create_task(wait) for wait in waits]
    await asyncio.to_thread(hive.run_jobs)
    async with asyncio.timeout(LIMIT):
        first, second = await asyncio.gather(*tasks)
    assert first == second
    assert first[0].state is JobState.COMPLETE


async def test_a_cancelled_trigger_does_not_affect_others(hive: PracticeHive) -> None:
    job_ids = submit_jobs(hive, 2)
    cancelled, remaining = (asyncio.create_task(wait_for_outcomes(hive, [job_id])) for job_id in job_ids)
    await asyncio.sleep(0.2)
    cancelled.cancel()
    await asyncio.to_thread(hive.run_jobs)
    async with asyncio.timeout(LIMIT):
        assert [outcome.job_id for outcome in await remaining] == job_ids[1:]


async def test_a_wait_survives_a_lost_connection(
    make_hive: Callable[..., PracticeHive], monkeypatch: pytest.MonkeyPatch
) -> None:
    hive = make_hive("mysql")
    monkeypatch.setattr(poller, "MAX_BACKOFF_SECONDS", 0.1)
    wait = asyncio.create_task(wait_for_outcomes(hive, submit_jobs(hive)))
    for _ in range(3):
        await asyncio.sleep(0.2)
        other_connections = (
            "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        )
        for (connection_id,) in hive.fetch_rows(other_connections):
            hive.execute(f"KILL {connection_id}")
    assert not wait.done()
    await asyncio.to_thread(hive.run_jobs)
    async with asyncio.timeout(LIMIT):
        assert (await wait)[0].state is JobState.COMPLETE


@pytest.mark.parametrize("missing", ["its table", "its connection"])
async def test_a_wait_survives_a_hive_that_is_unavailable_for_some_time(
    make_hive: Callable[..., PracticeHive], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    hive = make_hive("sqlite")
    monkeypatch.setattr(poller, "MAX_BACKOFF_SECONDS", 0.1)
    job_ids = submit_jobs(hive)
    await asyncio.to_thread(hive.run_jobs)
    with monkeypatch.context() as patch:
        if missing == "its connection":
            patch.delenv(f"AIRFLOW_CONN_{hive.conn_id.upper()}")
        else:
            hive.execute("ALTER TABLE job RENAME TO elsewhere")
        wait = asyncio.create_task(wait_for_outcomes(hive, job_ids))
        await asyncio.sleep(0.5)
        assert not wait.done()
    if missing == "its table":
        hive.execute("ALTER TABLE elsewhere RENAME TO job")
    async with asyncio.timeout(LIMIT):
        assert (await wait)[0].state is JobState.COMPLETE


async def test_a_hive_that_is_unavailable_for_long_fails_the_waits_with_the_reason(
    make_hive: Callable[..., PracticeHive], monkeypatch: pytest.MonkeyPatch
) -> None:
    hive = make_hive("sqlite")
    monkeypatch.setattr(poller, "MAX_REJECTION_SECONDS", 0.0)
    job_ids = submit_jobs(hive)
    hive.execute("ALTER TABLE job RENAME TO elsewhere")
    async with asyncio.timeout(LIMIT):
        (final_event,) = [event async for event in HiveJobTrigger(hive.conn_id, job_ids, 3600).run()]
    assert isinstance(final_event, TaskFailedEvent)
    assert "no such table: job" in parse_message(final_event)["errors"][0]


@pytest.mark.parametrize(
    "result",
    ['{"n": 123456789012345678901234567890}', '{"s": "\\ud83d"}', '{"s": "\\u0000"}', "[" * 5000, "[NaN]"],
    ids=["large number", "lone surrogate", "nul", "deep", "nan"],
)
async def test_no_result_breaks_the_triggerer(make_hive: Callable[..., PracticeHive], result: str) -> None:
    """The event of a trigger goes through msgpack to the parent process of the triggerer."""
    hive = make_hive("mysql")
    job_ids = submit_jobs(hive, result=result)
    await asyncio.to_thread(hive.run_jobs)
    async with asyncio.timeout(LIMIT):
        (final_event,) = [event async for event in HiveJobTrigger(hive.conn_id, job_ids, 3600).run()]
    assert isinstance(final_event, TaskSuccessEvent)
    changes = messages.TriggerStateChanges(events=[TriggerEventEntry(1, final_event, None)])
    assert _RequestFrame(id=1, body=changes.model_dump()).as_bytes()
    assert parse_message(final_event)["counts"] == {"complete": 1}


async def test_a_finished_poller_starts_again(hive: PracticeHive) -> None:
    for _ in range(3):
        job_ids = submit_jobs(hive)
        await asyncio.to_thread(hive.run_jobs)
        async with asyncio.timeout(LIMIT):
            assert (await wait_for_outcomes(hive, job_ids))[0].state is JobState.COMPLETE


async def test_a_poll_takes_one_statement_per_level(hive: PracticeHive) -> None:
    job_ids = submit_jobs(hive, 8, parts=3)
    await asyncio.to_thread(hive.run_jobs)
    statements: list[str] = []
    event.listen(hive.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    with hive.engine.connect() as connection:
        trees = job_trees.load_trees(connection, job_ids)
    assert {len(tree.statuses) for tree in trees.values()} == {5}
    assert len(statements) == 2
