"""Polling leaves the event loop free: it is the loop of all triggers of a triggerer."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text

from event_hooks.hive import poller
from tests.integration.hive.conftest import MakeHive
from tests.integration.hives import PracticeHive

WAITS = 1000
JOBS_PER_WAIT = 50
MAX_LOOP_SECONDS = 0.05
LIMIT = 60


def add_ready_jobs(hive: PracticeHive, count: int) -> list[int]:
    """Insert READY jobs, and return their ids."""
    insert = text(
        "INSERT INTO job (analysis_id, input_id, param_id_stack, accu_id_stack) VALUES (1, :input, '', '')"
    )
    with hive.engine.begin() as connection:
        connection.execute(insert, [{"input": f'{{"n" => {number}}}'} for number in range(count)])
    return [job_id for (job_id,) in hive.fetch_rows("SELECT job_id FROM job ORDER BY job_id")]


@asynccontextmanager
async def record_iterations() -> AsyncIterator[list[float]]:
    """Yield a list of the CPU seconds that the event loop uses between two turns of the same task."""
    seconds: list[float] = []

    async def measure() -> None:
        while True:
            started = time.thread_time()
            await asyncio.sleep(0.001)
            seconds.append(time.thread_time() - started)

    task = asyncio.create_task(measure())
    yield seconds
    task.cancel()


@pytest.fixture
def without_garbage_collection() -> Iterator[None]:
    """Exclude full collections: their time depends on all objects of the process, not on the check."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.alone
@pytest.mark.usefixtures("fast_polling", "without_garbage_collection")
async def test_a_check_of_many_stalled_jobs_leaves_the_event_loop_free(
    make_hive: MakeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__STALL_CHECK_AFTER", "0.1")
    monkeypatch.setattr(poller, "IDLE_FACTOR", 0)
    hive = make_hive("mysql")
    job_ids = add_ready_jobs(hive, WAITS * JOBS_PER_WAIT)
    polled = asyncio.Barrier(WAITS + 1)

    async def wait_for_stall(wait_ids: list[int]) -> None:
        changes = poller.get_poller(hive.conn_id).subscribe(dict.fromkeys(wait_ids), 3600)
        await anext(changes)
        await polled.wait()
        while not (stalls := (await anext(changes)).stalls):
            pass
        assert [stall.job_ids for stall in stalls] == [tuple(wait_ids)]

    waits = [asyncio.create_task(wait_for_stall(job_ids[number::WAITS])) for number in range(WAITS)]
    async with asyncio.timeout(LIMIT):
        await polled.wait()
        async with record_iterations() as iterations:
            await asyncio.gather(*waits)
    assert max(iterations) <= MAX_LOOP_SECONDS
