"""
One look at a hive for all that wait for it.

All triggers of a triggerer run in one event loop, so a dictionary of that loop is enough to find each other.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

from sqlalchemy import AsyncAdaptedQueuePool
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from event_hooks import settings
from event_hooks.exceptions import EventHooksError, HiveRefused
from event_hooks.hive import address, trees
from event_hooks.hive.hook import errors_named
from event_hooks.hive.trees import JobOutcome, State

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = logging.getLogger(__name__)

MAX_PAUSE = 60.0
"""Seconds between two looks at a hive that does not answer."""

PATIENCE = 3600.0
"""Seconds that a hive may refuse to be read, as during a restore or a change of password."""

_Wait: TypeAlias = "asyncio.Future[JobOutcome]"


class HivePoller:
    """
    Look at one hive at intervals, for as long as anybody waits for one of its jobs.

    :param hive_conn_id: connection of the hive.
    """

    def __init__(self, hive_conn_id: str) -> None:
        self.hive_conn_id = hive_conn_id
        self._waits: dict[int, set[_Wait]] = {}
        self._intervals: dict[_Wait, float] = {}
        self._task: asyncio.Task[None] | None = None

    async def until_over(self, job_ids: Sequence[int], interval: float) -> list[JobOutcome]:
        """
        Wait until these jobs, and all that grew from them, are over.

        A hive that does not answer is asked again, with growing pauses, for as long as it takes; one that
        answers and refuses, for an hour.

        :param interval: seconds between two looks; the shortest that anybody asked for holds for all.
        :return: the outcome of each job, in the order asked for.
        :raises HiveRefused: if the hive cannot be read for an hour.
        """
        waits = [self._wait(job_id, interval) for job_id in job_ids]
        if self._task is None or self._task.done():
            self._start()
        try:
            return list(await asyncio.gather(*waits))
        finally:
            for job_id, wait in zip(job_ids, waits, strict=True):
                self._forget(job_id, wait)

    def _wait(self, job_id: int, interval: float) -> _Wait:
        wait: _Wait = asyncio.get_running_loop().create_future()
        self._waits.setdefault(job_id, set()).add(wait)
        self._intervals[wait] = interval
        return wait

    def _forget(self, job_id: int, wait: _Wait) -> None:
        wait.cancel()
        self._intervals.pop(wait, None)
        if waits := self._waits.get(job_id):
            waits.discard(wait)
            if not waits:
                del self._waits[job_id]

    def _start(self) -> None:
        # A context of its own: what it logs belongs to no task, and goes to the triggerer's log.
        self._task = asyncio.create_task(self._look_while_awaited(), context=contextvars.Context())
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Leave nobody waiting for ever: pass an error on, begin again for who came last."""
        if task.cancelled():
            return
        if error := task.exception():
            for wait in [wait for waits in self._waits.values() for wait in waits if not wait.done()]:
                wait.set_exception(error)
        elif self._waits:
            self._start()

    async def _look_while_awaited(self) -> None:
        engine: AsyncEngine | None = None
        failing_since, pause = 0.0, 0.0
        try:
            while self._waits:
                try:
                    engine = engine or await self._engine()
                    self._tell(await self._look(engine, [*self._waits]))
                    pause = 0.0
                except EventHooksError as error:
                    failing_since = failing_since if pause else time.monotonic()
                    if isinstance(error, HiveRefused) and time.monotonic() - failing_since > PATIENCE:
                        raise
                    pause = min(max(1.0, 2 * pause), MAX_PAUSE)
                    log.warning("%s; next look in %.0f s", error, pause)
                    # The next look asks Airflow again: the connection may have been mended meanwhile.
                    await _disposed(engine)
                    engine = None
                if self._intervals:
                    await asyncio.sleep(pause or min(self._intervals.values()))
        finally:
            await _disposed(engine)

    async def _look(self, engine: AsyncEngine, job_ids: Sequence[int]) -> list[JobOutcome]:
        with errors_named(self.hive_conn_id):
            # The limit grows with the work: each 1,000 jobs are several statements.
            async with asyncio.timeout(settings.hive_timeout() * (2 + len(job_ids) / 1000)):
                async with engine.connect() as connection:
                    return await connection.run_sync(_outcomes, job_ids)

    def _tell(self, outcomes: Iterable[JobOutcome]) -> None:
        for outcome in outcomes:
            for wait in self._waits.pop(outcome.job_id, ()):
                self._intervals.pop(wait, None)
                if not wait.done():
                    wait.set_result(outcome)

    async def _engine(self) -> AsyncEngine:
        url, options = await address.find_async(self.hive_conn_id)
        return create_async_engine(
            url,
            connect_args=options,
            isolation_level="AUTOCOMMIT",
            poolclass=AsyncAdaptedQueuePool,
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=True,
            hide_parameters=True,
        )


def poller_of(hive_conn_id: str) -> HivePoller:
    """Give the one poller of this hive in this event loop."""
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    return pollers.setdefault(hive_conn_id, HivePoller(hive_conn_id))


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, HivePoller]] = WeakKeyDictionary()


def _outcomes(connection: Connection, job_ids: Sequence[int]) -> list[JobOutcome]:
    found = trees.read(connection, job_ids).values()
    return trees.outcomes(connection, [tree for tree in found if tree.state() is not State.RUNNING])


async def _disposed(engine: AsyncEngine | None) -> None:
    if engine is not None:
        await engine.dispose()
