"""
Write into the ledger from the event loop of a triggerer, for all its triggers, and send what is owed.

That is reports, to RabbitMQ, and events that follow, to the event server. One thread and one connection of
each kind, however many wait: a server that is away holds up nobody. What is to be written waits in memory; if
the triggerer dies, its triggers find it in the hive again.
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

MAX_PAUSE = 30.0
"""Seconds between two tries while the ledger is away."""

SERVER_PAUSE = 60.0
"""Seconds for which a broker, or an event server, that took nothing is left to the DAG maintain_ledger."""

T = TypeVar("T")

Operation = Callable[[Ledger], object]


class LedgerWriter:
    """Do one thing after the other with the ledger."""

    def __init__(self) -> None:
        self._operations: deque[tuple[Operation, asyncio.Future[Any]]] = deque()
        self._thread = ThreadPoolExecutor(1, "scribe")
        self._task: asyncio.Task[None] | None = None
        self._ledger: Ledger | None = None
        self._no_broker_until = 0.0
        self._messenger = ThreadPoolExecutor(1, "hand on")
        self._handing_on: asyncio.Task[None] | None = None
        self._no_event_server_until = 0.0

    def write(self, operation: Operation) -> asyncio.Future[Any]:
        """
        Run an operation in its turn, in a thread; retry it while the ledger is unavailable.

        :return: the operation's result, or its error if the ledger rejects it or the operation itself fails.
        """
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._operations.append((operation, done))
        if self._task is None:
            # A context of its own: what it logs belongs to no task, and goes to the triggerer's log.
            self._task = asyncio.create_task(self._work(), context=contextvars.Context())
        return done

    async def _work(self) -> None:
        try:
            while self._operations:
                await self._write_all()
                await self._send()
                self._hand_on_beside()
        finally:
            self._task = None

    async def _write_all(self) -> None:
        pause = 0.0
        while self._operations:
            operation, done = self._operations[0]
            try:
                result = await self._in_thread(operation, await self._found_ledger())
            except LedgerRejected as error:
                self._drop(done, error)
            except LedgerUnreachable as error:
                pause = min(max(1.0, 2 * pause), MAX_PAUSE)
                log.warning("%s; %s writes wait, next try in %.0f s", error, len(self._operations), pause)
                self._ledger = None
                await asyncio.sleep(pause)
                continue
            except Exception as error:
                self._drop(done, error)
            else:
                pause = 0.0
                if not done.done():
                    done.set_result(result)
            self._operations.popleft()

    @staticmethod
    def _drop(done: asyncio.Future[Any], error: Exception) -> None:
        log.error("This cannot be written into the ledger", exc_info=error)
        if not done.done():
            done.set_exception(error)
            done.exception()  # it is in the log: who does not look need not be told again

    async def _found_ledger(self) -> Ledger:
        if self._ledger is None:
            try:
                found = await database.find_async()
                self._ledger = await self._in_thread(Ledger, database.CONN_ID, found)
            except Exception as error:  # Airflow, too, may not answer
                raise LedgerUnreachable(database.CONN_ID, str(error)) from error
        return self._ledger

    async def _send(self) -> None:
        if self._ledger is None or time.monotonic() < self._no_broker_until:
            return
        try:
            hook = RabbitMQHook(server=await RabbitMQHook.find_server())
            await self._in_thread(send_pending, self._ledger, hook)
        except Exception as error:
            self._no_broker_until = time.monotonic() + SERVER_PAUSE
            is_known = isinstance(error, EventHooksError)
            log.warning("Reports are owed, maintain_ledger tries again: %s", error, exc_info=not is_known)

    def _hand_on_beside(self) -> None:
        """Hand events on in a thread of its own, for the event server may take its time."""
        is_paused = time.monotonic() < self._no_event_server_until
        if self._ledger and not self._handing_on and not is_paused:
            handing_on = self._hand_on(self._ledger)
            self._handing_on = asyncio.create_task(handing_on, context=contextvars.Context())

    async def _hand_on(self, ledger: Ledger) -> None:
        work = asyncio.get_running_loop().run_in_executor
        try:
            if await work(self._messenger, load_pending_follow_ups, ledger, 1):
                hook = EventServerHook(place=await load_connection_async())
                await work(self._messenger, send_follow_ups, ledger, hook)
        except Exception as error:
            self._no_event_server_until = time.monotonic() + SERVER_PAUSE
            is_known = isinstance(error, EventHooksError)
            log.warning("Events are owed, maintain_ledger tries again: %s", error, exc_info=not is_known)
        finally:
            self._handing_on = None

    async def _in_thread(self, work: Callable[..., T], *given: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *given)


_SCRIBES: WeakKeyDictionary[asyncio.AbstractEventLoop, LedgerWriter] = WeakKeyDictionary()


def get_ledger_writer() -> LedgerWriter:
    """Give the one of this event loop."""
    return _SCRIBES.setdefault(asyncio.get_running_loop(), LedgerWriter())
