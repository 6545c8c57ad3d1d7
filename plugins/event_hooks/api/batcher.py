"""Batch calls: process all calls that arrive during one batch together in the next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MAX_GATHER_SECONDS = 0.02
"""The longest wait for as many items as there were callers at the end of the previous batch."""

MAX_PAUSE_SECONDS = 0.1
"""After a longer time without a batch, a batch does not wait."""


class Batcher(Generic[T, R]):
    """
    Queue items, and process them in batches in one worker thread.

    While the worker thread processes a batch, new items wait in the queue; they form the next batch. A batch
    waits a short time for the callers of the previous one. If a caller is cancelled while its item is in the
    queue, the item is skipped. Each batcher belongs to one event loop.

    :param name: name of the worker thread.
    :param operation: processes a batch. It returns a result or an error for each item, in the order of the
        items. An exception that it raises becomes the error of every item of the batch.
    """

    def __init__(self, name: str, operation: Callable[[Sequence[T]], Sequence[R | BaseException]]) -> None:
        self._operation = operation
        self._worker_thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._queue: list[tuple[T, asyncio.Future[R]]] = []
        self._task: asyncio.Task[None] | None = None
        self._batch_started_at = 0.0
        self._expected_count, self._last_ended_at = 0, 0.0
        self._is_gathered = asyncio.Event()

    @property
    def busy_seconds(self) -> float:
        """Seconds since the current batch started; 0 while the worker thread is idle."""
        return time.monotonic() - self._batch_started_at if self._task else 0.0

    async def submit(self, item: T) -> R:
        """Process an item in the next batch, and return its result or raise its error."""
        return await self.submit_nowait(item)

    def submit_nowait(self, item: T) -> asyncio.Future[R]:
        """Queue an item, and return its future; asyncio logs an error that no caller retrieves."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append((item, future))
        if len(self._queue) >= self._expected_count:
            self._is_gathered.set()
        if self._task is None:
            self._batch_started_at = time.monotonic()
            self._task = asyncio.create_task(self._process_queue())
        return future

    async def close(self) -> None:
        """Process the items in the queue, then end the worker thread."""
        if self._task:
            await asyncio.wait([self._task])
        self._worker_thread.shutdown(wait=False)

    async def _process_queue(self) -> None:
        while self._queue:
            await self._gather()
            batch = [entry for entry in self._queue if not entry[1].done()]
            self._queue = []
            if not batch:
                continue
            self._batch_started_at = time.monotonic()
            results = await self._process_batch([item for item, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                _resolve(future, result)
            self._expected_count, self._last_ended_at = len(batch) + len(self._queue), time.monotonic()
        self._task = None

    async def _gather(self) -> None:
        """
        Wait for as many items as there were callers at the end of the previous batch, for a short time.

        Each of several concurrent clients sends its next request when it has the previous response.
        Without the wait, the clients would form two groups, and each transaction would serve one of them.
        """
        is_recent = time.monotonic() - self._last_ended_at < MAX_PAUSE_SECONDS
        if is_recent and len(self._queue) < self._expected_count:
            self._is_gathered.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_gathered.wait(), MAX_GATHER_SECONDS)

    async def _process_batch(self, items: Sequence[T]) -> Sequence[R | BaseException]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._worker_thread, self._operation, items)
        except Exception as error:
            return [error] * len(items)


def _resolve(future: asyncio.Future[R], result: R | BaseException) -> None:
    if future.done():  # its caller was cancelled during the batch
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
