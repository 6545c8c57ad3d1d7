"""
Poll a hive once for all triggers that wait for its jobs.

All triggers of a triggerer run in one event loop, so a dictionary per event loop is enough to share a poller.
Each hive has a thread of its own: a hive that hangs delays no other hive, and reading many jobs does not
block the event loop. Database drivers for event loops are written in Python and blocked it for 0.7 s with
1,000 jobs.

A poll runs the statements of :meth:`HiveReader.read_changes`, however many triggers wait: one for each level
of unsettled jobs, at most three more when trees have finished, and one for each 1,000 jobs to check the
tokens of jobs that are read for the first time or have finished. The test
``tests/integration/hive/test_query_cost.py`` counts them.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar
from weakref import WeakKeyDictionary

from event_hooks import settings
from event_hooks.exceptions import EventHooksError, HiveRejected, HiveUnreachable
from event_hooks.hive.connection import resolve_hive_async
from event_hooks.hive.reader import HiveChanges, HiveReader
from event_hooks.hive.subscription import Subscription, merge_jobs

T = TypeVar("T")

log = logging.getLogger(__name__)

MAX_BACKOFF_SECONDS = 60.0
"""Upper bound of the delay before a failed poll is retried."""

MAX_REJECTION_SECONDS = 3600.0
"""How long a hive may reject all polls, as during a restore or a change of password, before waits fail."""

IDLE_FACTOR = 3
"""After each poll a hive is idle for this many times the duration of the poll, to limit the load on it."""


def get_poller(hive_conn_id: str) -> HivePoller:
    """Return the poller that all triggers of this event loop share for a hive."""
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    return pollers.setdefault(hive_conn_id, HivePoller(hive_conn_id))


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, HivePoller]] = WeakKeyDictionary()


class HivePoller:
    """
    Poll one hive at intervals, for as long as there are subscriptions to its jobs.

    :param hive_conn_id: connection of the hive.
    """

    def __init__(self, hive_conn_id: str) -> None:
        self.hive_conn_id = hive_conn_id
        self._subscriptions: set[Subscription] = set()
        self._removed_ids: set[int] = set()
        self._has_new_subscription = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._outage: str | None = None
        self._logged_errors: deque[str] = deque(maxlen=100)

    async def subscribe(
        self, jobs: Mapping[int, str | None], ready_timeout: float, waited: float = 0
    ) -> AsyncIterator[HiveChanges]:
        """
        Yield the changes of submitted jobs and their trees, until all of these trees are finished.

        After an error the hive is polled with increasing delays, without a time limit. A hive that rejects
        all polls is polled for :data:`MAX_REJECTION_SECONDS`.

        :param jobs: as in :class:`Subscription`, like ``ready_timeout`` and ``waited``.
        :raises HiveRejected: the hive rejected all polls for too long.
        """
        subscription = Subscription(jobs, ready_timeout, waited)
        self._subscriptions.add(subscription)
        self._has_new_subscription.set()
        if self._outage:
            subscription.publish(HiveChanges(message=self._outage))
        if self._task is None:
            # An empty context: these log lines belong to no task, so they go to the log of the triggerer.
            self._task = asyncio.create_task(self._poll_while_subscribed(), context=contextvars.Context())
        try:
            while subscription.unfinished_ids or not subscription.updates.empty():
                update = await subscription.updates.get()
                if isinstance(update, HiveRejected):
                    raise update
                yield update
        finally:
            self._subscriptions.discard(subscription)
            self._removed_ids.update(jobs)

    async def _poll_while_subscribed(self) -> None:
        reader, backoff = _ReaderThread(self.hive_conn_id), _Backoff()
        try:
            while self._subscriptions:
                try:
                    await self._poll(reader)
                    backoff = _Backoff()
                    await self._set_outage(None)
                    await self._wait_until_due(reader.idle_seconds)
                except Exception as error:  # noqa: BLE001 (it must not end the waits)
                    # The next poll loads the connection from Airflow again, since it may have been corrected.
                    reader.close()
                    await self._handle_error(error, backoff)
        finally:
            reader.close()
            self._task = None

    async def _handle_error(self, error: Exception, backoff: _Backoff) -> None:
        """Wait before the next poll, or fail the waits if the hive has rejected all polls for too long."""
        try:
            delay = backoff.next_delay(error)
        except HiveRejected as rejection:
            for subscription in self._subscriptions:
                subscription.updates.put_nowait(rejection)
            self._subscriptions.clear()
            return
        message = str(error)
        if not isinstance(error, EventHooksError):
            message = f"polling of hive {self.hive_conn_id!r} failed: {error!r}"
            self._log_traceback(message, error)
        await self._set_outage(f"{message}; retrying with increasing delays")
        log.warning("%s; next poll in %.0f s", message, delay)
        await asyncio.sleep(delay)

    def _log_traceback(self, message: str, error: Exception) -> None:
        """Log an error with its traceback, unless the same error was logged before."""
        if message not in self._logged_errors:
            self._logged_errors.append(message)
            log.error("%s", message, exc_info=error)

    async def _set_outage(self, outage: str | None) -> None:
        """Publish a message when the hive becomes unavailable, and when it is available again."""
        previous, self._outage = self._outage, outage
        if (outage is None) != (previous is None):
            message = outage or f"hive {self.hive_conn_id!r} is available again"
            log.info("%s", message)
            await self._publish([(item, HiveChanges(message=message)) for item in self._subscriptions])

    async def _poll(self, reader: _ReaderThread) -> None:
        now = time.monotonic()
        self._has_new_subscription.clear()
        removed_ids, self._removed_ids = self._removed_ids, set()
        # One poll for several subscriptions is cheaper than one for each, so those due soon are included.
        soon = now + settings.poll_interval()
        due = [subscription for subscription in self._subscriptions if subscription.next_poll <= soon]
        is_partial = False
        for jobs in merge_jobs(item for item in due if not item.is_behind):
            operation = partial(HiveReader.read_changes, removed_ids=removed_ids, jobs=jobs)
            changes = await reader.run(operation, len(jobs))
            await self._publish(self._split_by_subscription(changes, jobs))
            self._removed_ids.update(outcome.job_id for outcome in changes.outcomes)
            is_partial = is_partial or changes.is_partial
        for subscription in due:
            subscription.schedule_next_poll(time.monotonic(), is_partial=is_partial)
        try:
            await self._check_stalls(reader)
        except Exception as error:  # noqa: BLE001 (it decides no outcome, so the polls continue without it)
            message = f"the check for stalled jobs of hive {self.hive_conn_id!r} failed: {error!r}"
            self._log_traceback(message, error)

    async def _check_stalls(self, reader: _ReaderThread) -> None:
        """Publish the stalls of each wait, if the last check was some time ago."""
        now, min_seconds = time.monotonic(), settings.stall_check_after()
        if now - reader.stalls_checked_at < min(min_seconds, MAX_BACKOFF_SECONDS) / 2:
            return
        reader.stalls_checked_at = now
        subscriptions = list(self._subscriptions)
        waits = [subscription.to_wait() for subscription in subscriptions]
        checks = await reader.run(
            lambda hive_reader: hive_reader.find_stalls_of_waits(waits, min_seconds),
            sum(len(wait.job_ids) for wait in waits),
        )
        await self._publish(zip(subscriptions, checks, strict=True))

    def _split_by_subscription(
        self, changes: HiveChanges, jobs: Mapping[int, str | None]
    ) -> Iterator[tuple[Subscription, HiveChanges]]:
        """
        Yield the changes that concern each subscription.

        :param jobs: the jobs that were read, with the tokens that were checked.
        """
        progress = {item.job_id: item for item in changes.progress}
        outcomes = {item.job_id: item for item in changes.outcomes}
        for subscription in list(self._subscriptions):
            read_ids = subscription.select_read(jobs, progress.keys() | outcomes.keys())
            part = HiveChanges(
                [progress[job_id] for job_id in read_ids if job_id in progress],
                [outcomes[job_id] for job_id in read_ids if job_id in outcomes],
            )
            yield subscription, part

    async def _publish(self, changes: Iterable[tuple[Subscription, HiveChanges]]) -> None:
        """Publish to one subscription after the other; other tasks of the event loop run in between."""
        for subscription, part in changes:
            if subscription.publish(part):
                await asyncio.sleep(0)

    async def _wait_until_due(self, idle_seconds: float) -> None:
        await asyncio.sleep(idle_seconds)
        next_poll = min((subscription.next_poll for subscription in self._subscriptions), default=0.0)
        try:
            async with asyncio.timeout(max(0.0, next_poll - time.monotonic())):
                await self._has_new_subscription.wait()
        except TimeoutError:
            pass


class _Backoff:
    """Delays between polls after consecutive errors."""

    def __init__(self) -> None:
        self._delay = 0.0
        self._rejected_since: float | None = None

    def next_delay(self, error: Exception) -> float:
        """
        Return the seconds before the next poll; they double from 1 to :data:`MAX_BACKOFF_SECONDS`.

        :raises HiveRejected: the given error, if polls were rejected for :data:`MAX_REJECTION_SECONDS`.
        """
        if isinstance(error, HiveRejected):
            self._rejected_since = self._rejected_since or time.monotonic()
            if time.monotonic() - self._rejected_since > MAX_REJECTION_SECONDS:
                raise error
        else:
            self._rejected_since = None
        self._delay = min(max(1.0, 2 * self._delay), MAX_BACKOFF_SECONDS)
        return self._delay


def _measure(operation: Callable[[HiveReader], T], reader: HiveReader) -> tuple[T, float]:
    """Run an operation; return its result and seconds, without those that an overloaded event loop adds."""
    started = time.monotonic()
    return operation(reader), time.monotonic() - started


class _ReaderThread:
    """A ``HiveReader`` in a thread of its own; both are created when the first operation runs."""

    def __init__(self, hive_conn_id: str) -> None:
        self.hive_conn_id = hive_conn_id
        self.stalls_checked_at = time.monotonic()
        self.idle_seconds = 0.0
        """Seconds to leave the hive idle after the last operation."""

        self._session: tuple[HiveReader, ThreadPoolExecutor] | None = None

    async def run(self, operation: Callable[[HiveReader], T], job_count: int) -> T:
        """
        Run an operation in the thread.

        :param job_count: number of submitted jobs concerned; the timeout increases with it.
        :raises HiveUnreachable: the hive did not answer in time.
        """
        if self._session is None:
            engine_args = await resolve_hive_async(self.hive_conn_id)
            executor = ThreadPoolExecutor(1, thread_name_prefix=f"hive {self.hive_conn_id}")
            self._session = HiveReader(self.hive_conn_id, engine_args), executor
        reader, executor = self._session
        timeout = settings.hive_timeout() * (2 + job_count / 1000)
        future = asyncio.get_running_loop().run_in_executor(executor, _measure, operation, reader)
        try:
            async with asyncio.timeout(timeout):
                result, seconds = await future
        except TimeoutError:
            self.close()
            raise HiveUnreachable(self.hive_conn_id, f"no answer within {timeout:.0f} s") from None
        self.idle_seconds = IDLE_FACTOR * seconds
        return result

    def close(self) -> None:
        """
        Close the connection as soon as the thread is free, without waiting for an operation that hangs.

        The next operation opens another connection in another thread.
        """
        if self._session:
            reader, executor = self._session
            with suppress(RuntimeError):  # The thread could not be started, so there is no connection.
                executor.submit(reader.close)
            executor.shutdown(wait=False)
        self._session = None
        self.stalls_checked_at = time.monotonic()
