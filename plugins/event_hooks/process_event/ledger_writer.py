"""
Write to the ledger from the event loop of a triggerer, and send pending reports and follow-up events.

All triggers of an event loop share a writer: one thread and one connection for the ledger and RabbitMQ,
and another thread for the event server. So an unavailable server does not block the triggers. Pending
operations are in memory; if the triggerer dies, its triggers read the same changes from the hive again.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from event_hooks.exceptions import EventHooksError, LedgerRejected, LedgerUnreachable
from event_hooks.follow_ups.hook import EventServerHook, load_connection_async
from event_hooks.follow_ups.send import send_follow_ups
from event_hooks.ledger import database
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.follow_ups import load_pending_follow_ups
from event_hooks.reports.hook import RabbitMQHook
from event_hooks.reports.outbox import send_pending

log = logging.getLogger(__name__)

MAX_RETRY_SECONDS = 30.0
"""The longest delay between two attempts while the ledger is unavailable; delays double from 1 s."""

SERVER_PAUSE_SECONDS = 60.0
"""After an error of RabbitMQ or the event server, only the DAG `maintain_ledger` sends for this time."""

T = TypeVar("T")

Operation = Callable[[Ledger], object]


class LedgerWriter:
    """Run operations on the ledger one after another, then send pending reports and follow-up events."""

    def __init__(self) -> None:
        self._operations: deque[tuple[Operation, asyncio.Future[Any]]] = deque()
        self._thread = ThreadPoolExecutor(1, "ledger writer")
        self._task: asyncio.Task[None] | None = None
        self._ledger: Ledger | None = None
        self._reports_paused_until = 0.0
        self._follow_ups_thread = ThreadPoolExecutor(1, "follow-up sender")
        self._follow_ups_task: asyncio.Task[None] | None = None
        self._follow_ups_paused_until = 0.0

    def write(self, operation: Operation) -> asyncio.Future[Any]:
        """
        Run an operation in its turn, in a thread; retry it while the ledger is unavailable.

        :return: the operation's result, or its error if the ledger rejects it or the operation itself fails.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._operations.append((operation, future))
        if self._task is None:
            # Its own context: log lines of the writer belong to the triggerer's log, not to that of a task.
            self._task = asyncio.create_task(self._run(), context=contextvars.Context())
        return future

    async def _run(self) -> None:
        try:
            while self._operations:
                await self._run_operations()
                await self._send_reports()
                self._start_sending_follow_ups()
        finally:
            self._task = None

    async def _run_operations(self) -> None:
        delay = 0.0
        while self._operations:
            operation, future = self._operations[0]
            try:
                result = await self._run_in_thread(operation, await self._connect())
            except LedgerRejected as error:
                _set_error(future, error)
            except LedgerUnreachable as error:
                delay = min(max(1.0, 2 * delay), MAX_RETRY_SECONDS)
                log.warning("%s; %s operations pending, retry in %.0f s", error, len(self._operations), delay)
                self._ledger = None
                await asyncio.sleep(delay)
                continue
            except Exception as error:
                _set_error(future, error)
            else:
                delay = 0.0
                if not future.done():
                    future.set_result(result)
            self._operations.popleft()

    async def _connect(self) -> Ledger:
        if self._ledger is None:
            try:
                connection = await database.load_connection_async()
                self._ledger = await self._run_in_thread(Ledger, database.CONN_ID, connection)
            except Exception as error:  # Airflow's API server may be unavailable as well
                raise LedgerUnreachable(database.CONN_ID, str(error)) from error
        return self._ledger

    async def _send_reports(self) -> None:
        if self._ledger is None or time.monotonic() < self._reports_paused_until:
            return
        try:
            hook = RabbitMQHook(parameters=await RabbitMQHook.load_parameters_async())
            await self._run_in_thread(send_pending, self._ledger, hook)
        except Exception as error:
            self._reports_paused_until = time.monotonic() + SERVER_PAUSE_SECONDS
            _log_retry("Reports", error)

    def _start_sending_follow_ups(self) -> None:
        """Send follow-up events in another thread, because the event server may respond slowly."""
        is_paused = time.monotonic() < self._follow_ups_paused_until
        if self._ledger and not self._follow_ups_task and not is_paused:
            self._follow_ups_task = asyncio.create_task(
                self._send_follow_ups(self._ledger), context=contextvars.Context()
            )

    async def _send_follow_ups(self, ledger: Ledger) -> None:
        run_in_executor = asyncio.get_running_loop().run_in_executor
        try:
            if await run_in_executor(self._follow_ups_thread, load_pending_follow_ups, ledger, 1):
                hook = EventServerHook(connection=await load_connection_async())
                await run_in_executor(self._follow_ups_thread, send_follow_ups, ledger, hook)
        except Exception as error:
            self._follow_ups_paused_until = time.monotonic() + SERVER_PAUSE_SECONDS
            _log_retry("Follow-up events", error)
        finally:
            self._follow_ups_task = None

    async def _run_in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


def _set_error(future: asyncio.Future[Any], error: Exception) -> None:
    log.error("An operation on the ledger failed and is not retried", exc_info=error)
    if not future.done():
        future.set_exception(error)
        future.exception()  # marks the exception as retrieved: asyncio would log it a second time


def _log_retry(subject: str, error: Exception) -> None:
    is_expected = isinstance(error, EventHooksError)
    log.warning("%s stay pending, maintain_ledger retries: %s", subject, error, exc_info=not is_expected)


_WRITERS: WeakKeyDictionary[asyncio.AbstractEventLoop, LedgerWriter] = WeakKeyDictionary()


def get_ledger_writer() -> LedgerWriter:
    """Return the writer of the running event loop."""
    return _WRITERS.setdefault(asyncio.get_running_loop(), LedgerWriter())
