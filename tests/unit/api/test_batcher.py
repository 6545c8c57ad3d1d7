"""Calls that arrive at nearly the same time share a batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from event_hooks.api import batcher as batcher_module
from event_hooks.api.batcher import Batcher

CALLERS = 4
CALLS = 6
SECONDS = 10


@asynccontextmanager
async def recording_batcher() -> AsyncIterator[tuple[Batcher[int, int], list[int]]]:
    """Yield a batcher, and the number of items of each of its batches."""
    counts: list[int] = []

    def process(items: Sequence[int]) -> list[int]:
        counts.append(len(items))
        time.sleep(0.005)
        return [-item for item in items]

    batcher = Batcher("test", process)
    async with asyncio.timeout(SECONDS):
        yield batcher, counts
        await batcher.close()


async def call_repeatedly(batcher: Batcher[int, int], delay: float = 0.0) -> None:
    await asyncio.sleep(delay)
    for item in range(CALLS):
        assert await batcher.submit(item) == -item


async def test_callers_that_call_again_at_once_share_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of them came earlier. Without a wait, its calls and those of the others would alternate."""
    monkeypatch.setattr(batcher_module, "MAX_GATHER_SECONDS", 0.5)
    async with recording_batcher() as (batcher, counts):
        await asyncio.gather(*(call_repeatedly(batcher, 0.002 * number) for number in range(CALLERS)))
    assert sum(counts) == CALLERS * CALLS
    assert len(counts) <= CALLS + 2


async def test_a_single_caller_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "MAX_GATHER_SECONDS", 2 * SECONDS)
    async with recording_batcher() as (batcher, counts):
        await call_repeatedly(batcher)
    assert counts == [1] * CALLS


async def test_the_size_of_a_batch_counts_for_a_short_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "MAX_GATHER_SECONDS", 2 * SECONDS)
    monkeypatch.setattr(batcher_module, "MAX_PAUSE_SECONDS", 0.0)
    async with recording_batcher() as (batcher, _):
        await asyncio.gather(*(call_repeatedly(batcher) for _ in range(CALLERS)))
        assert await batcher.submit(1) == -1


async def test_the_wait_for_further_callers_ends() -> None:
    async with recording_batcher() as (batcher, counts):
        await asyncio.gather(*(call_repeatedly(batcher) for _ in range(CALLERS)))
        await call_repeatedly(batcher)
    assert counts[-CALLS + 1 :] == [1] * (CALLS - 1)


async def test_cancelled_items_are_skipped() -> None:
    async with recording_batcher() as (batcher, counts):
        first = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0)
        second = asyncio.create_task(batcher.submit(2))
        await asyncio.sleep(0)
        second.cancel()
        assert await first == -1
        assert await batcher.submit(3) == -3
    assert sum(counts) == 2
