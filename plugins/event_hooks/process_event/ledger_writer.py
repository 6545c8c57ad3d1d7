"""
Write to the ledger from the event loop of a triggerer, and send pending reports and follow-up events.

All triggers of an event loop share a writer. It has one thread for the ledger, one for RabbitMQ and one for
the event server, so an unavailable server blocks neither the triggers nor the outcomes. Pending operations
are in memory; if the triggerer dies, its triggers read the same changes from the hive again.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from event_hooks.exceptions import (
    EventHooksError,
    LedgerRejected,
    LedgerUnreachable,
    LedgerValueRejected,
)
from event_hooks.follow_ups.hook import EventServerHook, load_connection_async
from event_hooks.follow_ups.send import send_follow_ups
from event_hooks.ledger import database
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.follow_ups import load_pending_follow_ups
from event_hooks.reports.sender import ReportSender

log = logging.getLogger(__name__)

MAX_RETRY_SECONDS = 30.0
"""The longest delay between two attempts while the ledger is unavailable; delays double from 1 s."""

MAX_REJECTION_SECONDS = 3600.0
"""
How long the ledger may reject an operation, as during a restore or a change of password, before it fails.
"""

MAX_FAILURES = 3
"""
Failures after which an operation is parked for ``MAX_RETRY_SECONDS``: other pending operations run before it.
"""

SERVER_PAUSE_SECONDS = 60.0
"""After an error of RabbitMQ or the event server, only the DAG `maintain_ledger` sends for this time."""

T = TypeVar("T")

Operation = Callable[[Ledger], object]


class LedgerWriter:
    """Run operations on the ledger one after another, and send pending reports and follow-up events."""

    def __init__(self) -> None:
        self._operations: dict[Hashable, deque[tuple[Operation, asyncio.Future[Any]]]] = {}
        """``{key: operations in their order}``; the first key is next, unless it is parked."""

        self._failures: Counter[Hashable] = Counter()
        """``{key: failures of its first operation}``."""

        self._parked_until: dict[Hashable, float] = {}
        self._rejected_since: dict[Hashable, float] = {}
        self._new_operation = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "ledger writer")
        self._task: asyncio.Task[None] | None = None
        self._ledger: Ledger | None = None
        self._senders = (
            BackgroundSender("Reports", ReportSender()),
            BackgroundSender("Follow-up events", _send_follow_ups),
        )

    def write(self, operation: Operation, *, key: Hashable = None) -> asyncio.Future[Any]:
        """
        Run an operation in a thread; retry it while the ledger is unavailable.

        An operation that the ledger rejects is retried for :data:`MAX_REJECTION_SECONDS`, except if the
        ledger cannot store one of its values.

        :param key: operations with the same key run in their order; others may run before them.
        :return: the operation's result, or its error if the ledger rejects it or the operation itself fails.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._operations.setdefault(key, deque()).append((operation, future))
        if not self._is_parked(key):
            self._new_operation.set()
        if self._task is None:
            # Its own context: log lines of the writer belong to the triggerer's log, not to that of a task.
            self._task = asyncio.create_task(self._run(), context=contextvars.Context())
        return future

    async def _run(self) -> None:
        delay = 0.0
        try:
            while self._operations:
                self._new_operation.clear()
                key = self._choose_key()
                try:
                    await self._run_operation(key)
                except LedgerUnreachable as error:
                    delay = min(max(1.0, 2 * delay), MAX_RETRY_SECONDS)
                    await self._postpone(key, delay, error)
                else:
                    delay = 0.0
        finally:
            self._task = None

    def _choose_key(self) -> Hashable:
        """Return the first key that is not parked, or the first one if all are."""
        return next(self._ready_keys(), next(iter(self._operations)))

    def _ready_keys(self) -> Iterator[Hashable]:
        return (key for key in self._operations if not self._is_parked(key))

    def _is_parked(self, key: Hashable) -> bool:
        return time.monotonic() < self._parked_until.get(key, 0)

    async def _run_operation(self, key: Hashable) -> None:
        """
        Run the first operation of a key.

        :raises LedgerUnreachable: the operation stays pending.
        """
        operation, future = self._operations[key][0]
        try:
            ledger = await self._connect()
            result = await _run_in(self._thread, operation, ledger)
        except LedgerUnreachable as error:
            if not self._is_lasting(key, error):
                raise
            _set_error(future, error)
        except Exception as error:
            _set_error(future, error)
        else:
            if not future.done():
                future.set_result(result)
            for sender in self._senders:
                sender.start(ledger)
        self._finish_operation(key)

    def _is_lasting(self, key: Hashable, error: LedgerUnreachable) -> bool:
        """Return whether the first operation of a key fails: a retry cannot help, or has not helped."""
        if not isinstance(error, LedgerRejected):
            self._rejected_since.pop(key, None)
            return False
        since = self._rejected_since.setdefault(key, time.monotonic())
        is_expired = time.monotonic() - since > MAX_REJECTION_SECONDS
        return is_expired or isinstance(error, LedgerValueRejected)

    def _finish_operation(self, key: Hashable) -> None:
        """Remove the first operation of a key; the operations of other keys are next."""
        del self._failures[key]
        self._parked_until.pop(key, None)
        self._rejected_since.pop(key, None)
        operations = self._operations.pop(key)
        operations.popleft()
        if operations:
            self._operations[key] = operations

    async def _postpone(self, key: Hashable, seconds: float, error: LedgerUnreachable) -> None:
        """Move the operations of a key to the end, and wait before the next attempt."""
        count = sum(map(len, self._operations.values()))
        log.warning("%s; %s operations pending, retry in %.0f s", error, count, seconds)
        self._ledger = None
        self._operations[key] = self._operations.pop(key)
        self._failures[key] += 1
        if self._failures[key] < MAX_FAILURES:
            await asyncio.sleep(seconds)
            return
        # The ledger may be available to other operations.
        self._parked_until[key] = time.monotonic() + MAX_RETRY_SECONDS
        if not any(True for _ in self._ready_keys()):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._new_operation.wait(), seconds)

    async def _connect(self) -> Ledger:
        if self._ledger is None:
            try:
                connection = await database.load_connection_async()
                self._ledger = await _run_in(self._thread, Ledger, database.CONN_ID, connection)
            except LedgerUnreachable:
                raise
            except Exception as error:  # Airflow's API server may be unavailable as well
                raise LedgerUnreachable(database.CONN_ID, str(error)) from error
        return self._ledger


class BackgroundSender:
    """
    Call a function that sends pending rows of the ledger, one call at a time, with a thread of its own.

    :param subject: the name of the rows in log lines.
    :param send: receives the thread and the ledger.
    """

    def __init__(self, subject: str, send: Callable[[ThreadPoolExecutor, Ledger], Awaitable[None]]) -> None:
        self._subject = subject
        self._send = send
        self._thread = ThreadPoolExecutor(1, f"{subject} sender")
        self._task: asyncio.Task[None] | None = None
        self._requested_ledger: Ledger | None = None
        self._paused_until = 0.0

    def start(self, ledger: Ledger) -> None:
        """Call the function, after the present call has ended; do nothing for a while after an error."""
        self._requested_ledger = ledger
        if self._task is None and time.monotonic() >= self._paused_until:
            self._task = asyncio.create_task(self._run(), context=contextvars.Context())

    async def _run(self) -> None:
        try:
            while ledger := self._requested_ledger:
                self._requested_ledger = None
                await self._send(self._thread, ledger)
        except Exception as error:
            self._paused_until = time.monotonic() + SERVER_PAUSE_SECONDS
            _log_retry(self._subject, error)
        finally:
            self._task = None


async def _send_follow_ups(thread: ThreadPoolExecutor, ledger: Ledger) -> None:
    if await _run_in(thread, load_pending_follow_ups, ledger, 1):
        hook = EventServerHook(connection=await load_connection_async())
        await _run_in(thread, send_follow_ups, ledger, hook)


async def _run_in(thread: ThreadPoolExecutor, function: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(thread, function, *arguments)


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
