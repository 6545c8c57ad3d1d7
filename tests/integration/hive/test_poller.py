"""Waiting for jobs: in an event loop, as in a triggerer."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from airflow.jobs.triggerer_job_runner import TriggerEventEntry, messages
from airflow.sdk.execution_time.comms import _RequestFrame
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent
from sqlalchemy import event

from event_hooks.hive import perl, poller, trees
from event_hooks.hive.hook import HiveHook
from event_hooks.hive.outcomes import JobOutcome
from event_hooks.hive.poller import HivePoller, poller_of
from event_hooks.hive.trees import Forest, State
from event_hooks.hive.trigger import HiveJobTrigger
from tests.integration.conftest import PracticeHive
from tests.support.practice_hive.worker import Worker

LIMIT = 20


def submit(hive: PracticeHive, count: int = 1, **practice: Any) -> list[int]:
    events = [{"genome": f"genome_{number}", "practice": practice} for number in range(count)]
    return HiveHook(hive.conn_id).submit("event_dump_dna", [perl.dumps({"event": event}) for event in events])


def told(ended: TaskSuccessEvent | TaskFailedEvent) -> dict[str, Any]:
    """Give what a trigger left as the XCom of its task."""
    assert ended.xcoms
    text = ended.xcoms["return_value"]
    assert isinstance(text, str)
    assert text.isascii()
    content: dict[str, Any] = json.loads(text)
    return content


async def until_over(hive: PracticeHive, job_ids: list[int]) -> list[JobOutcome]:
    found = {}
    async for news in poller_of(hive.conn_id).watch(job_ids, 3600):
        found |= {outcome.job_id: outcome for outcome in news.outcomes}
    return [found[job_id] for job_id in job_ids]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often."""
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__POLL_INTERVAL", "0.05")
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__MAX_POLL_INTERVAL", "0.1")


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
    outcomes = told(ended)["outcomes"]
    assert [outcome["job_id"] for outcome in outcomes] == job_ids
    assert [outcome["result"]["genome"] for outcome in outcomes] == ["genome_0", "genome_1", "genome_2"]


@pytest.mark.usefixtures("beekeeper")
async def test_one_failed_job_fails_the_task_and_keeps_the_others_outcomes(hive: PracticeHive) -> None:
    job_ids = submit(hive, 1) + submit(hive, 1, fail="child")
    async with asyncio.timeout(LIMIT):
        (ended,) = [event async for event in HiveJobTrigger(hive.conn_id, job_ids, 3600).run()]
    assert isinstance(ended, TaskFailedEvent)
    assert [outcome["state"] for outcome in told(ended)["outcomes"]] == ["complete", "failed"]


async def test_all_who_wait_are_asked_for_together(
    make_hive: Callable[..., PracticeHive], monkeypatch: pytest.MonkeyPatch
) -> None:
    hive = make_hive("mysql")
    looks: list[int] = []
    look = Forest.look

    def counted(forest: Forest, connection: Any, entries: Any) -> Any:
        looks.append(len(entries))
        return look(forest, connection, entries)

    monkeypatch.setattr(Forest, "look", counted)
    waiting = [HiveJobTrigger(hive.conn_id, [job_id], 3600).run() for job_id in submit(hive, 20)]
    tasks = [asyncio.ensure_future(anext(events)) for events in waiting]  # type: ignore[call-overload]
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
    assert "no such table: job" in told(ended)["error"]


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
    assert told(ended)["outcomes"][0]["state"] == "complete"


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
        read = trees.read(connection, job_ids)
    assert {len(tree.statuses) for tree in read.values()} == {5}
    assert len(statements) == 2


async def test_hives_with_equal_job_ids_are_never_mixed_up(make_hive: Callable[..., PracticeHive]) -> None:
    complete, failed, running = (make_hive(server) for server in ("mysql", "sqlite", "mysql"))
    lives: list[tuple[PracticeHive, dict[str, Any]]] = [
        (complete, {}),
        (failed, {"fail": "child"}),
        (running, {}),
    ]
    job_ids = [submit(hive, 3, **practice) for hive, practice in lives]
    assert job_ids == [[1, 2, 3]] * 3
    waits = [asyncio.create_task(until_over(hive, [1, 2, 3])) for hive, _ in lives]
    await asyncio.gather(asyncio.to_thread(complete.work), asyncio.to_thread(failed.work))
    async with asyncio.timeout(LIMIT):
        ended = [{outcome.state for outcome in await wait} for wait in waits[:2]]
    assert ended == [{State.COMPLETE}, {State.FAILED}]
    assert not waits[2].done()
    await asyncio.to_thread(running.work)
    async with asyncio.timeout(LIMIT):
        assert {outcome.state for outcome in await waits[2]} == {State.COMPLETE}


async def test_a_hive_that_hangs_does_not_delay_the_news_of_another(
    make_hive: Callable[..., PracticeHive], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It accepts connections, and says nothing."""
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__HIVE_TIMEOUT", "2")
    hive = make_hive("mysql")
    callers = asyncio.Event()
    silent = await asyncio.start_server(lambda *_: callers.set(), "127.0.0.1")
    port = silent.sockets[0].getsockname()[1]
    monkeypatch.setenv("AIRFLOW_CONN_HIVE_SILENT", f"mysql://u:p@127.0.0.1:{port}/hive")
    hanging = HivePoller("hive_silent").watch([1], 3600)
    waits = asyncio.create_task(anext(hanging))  # type: ignore[arg-type]
    async with asyncio.timeout(LIMIT):
        await callers.wait()
        job_ids = submit(hive)
        others = asyncio.create_task(until_over(hive, job_ids))
        await asyncio.to_thread(hive.work)
        over_at = time.monotonic()
        assert (await others)[0].state is State.COMPLETE
        assert time.monotonic() - over_at < 1
        assert not waits.done()
        assert (await waits).absence is not None
    await hanging.aclose()
    silent.close()
