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
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from weakref import WeakKeyDictionary

from event_hooks import settings
from event_hooks.exceptions import EventHooksError, HiveRejected, HiveUnreachable
from event_hooks.hive.connection import resolve_hive_async
from event_hooks.hive.reader import HiveChanges, HiveReader
from event_hooks.hive.subscription import Subscription, merge_jobs

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

    async def subscribe(
        self, jobs: Mapping[int, str | None], ready_timeout: float, waited: float = 0
    ) -> AsyncIterator[HiveChanges]:
        """
        Yield the changes of submitted jobs and their trees, until all of these trees are finished.

        An unreachable hive is polled with increasing delays, without a time limit. A hive that rejects all
        polls is polled for :data:`MAX_REJECTION_SECONDS`.

        :param jobs: as in :class:`Subscription`, like ``ready_timeout`` and ``waited``.
        :raises HiveRejected: the hive rejected all polls for too long, or the poller failed.
        """
        subscription = Subscription(jobs, ready_timeout, waited)
        self._subscriptions.add(subscription)
        self._has_new_subscription.set()
        if self._outage:
            subscription.publish(HiveChanges(message=self._outage))
        if self._task is None:
            self._start_task()
        try:
            while subscription.unfinished_ids or not subscription.updates.empty():
                update = await subscription.updates.get()
                if isinstance(update, EventHooksError):
                    raise update
                yield update
        finally:
            self._subscriptions.discard(subscription)
            self._removed_ids.update(jobs)

    def _start_task(self) -> None:
        # An empty context: these log lines belong to no task, so they go to the log of the triggerer.
        self._task = asyncio.create_task(self._poll_while_subscribed(), context=contextvars.Context())
        self._task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        """Publish the error of the task, or restart it for a subscription that was added as it ended."""
        self._task = None
        if task.cancelled():
            return
        if error := task.exception():
            update = self._to_update(error)
            for subscription in self._subscriptions:
                subscription.updates.put_nowait(update)
        elif self._subscriptions:
            self._start_task()

    def _to_update(self, error: BaseException) -> EventHooksError:
        if isinstance(error, EventHooksError):
            return error
        log.error("Polling of hive %r failed", self.hive_conn_id, exc_info=error)
        return HiveRejected(self.hive_conn_id, f"polling failed: {error!r}")

    async def _poll_while_subscribed(self) -> None:
        reader, backoff = _ReaderThread(self.hive_conn_id), _Backoff()
        try:
            while self._subscriptions:
                try:
                    await self._poll(reader)
                except EventHooksError as error:
                    delay = backoff.next_delay(error)
                    self._set_outage(f"{error}; retrying with increasing delays")
                    log.warning("%s; next poll in %.0f s", error, delay)
                    # A new reader loads the connection from Airflow again, since it may have been corrected.
                    reader.close()
                    reader = _ReaderThread(self.hive_conn_id)
                    await asyncio.sleep(delay)
                else:
                    backoff = _Backoff()
                    self._set_outage(None)
                    await self._wait_until_due(reader.idle_seconds)
        finally:
            reader.close()

    def _set_outage(self, outage: str | None) -> None:
        """Publish a message when the hive becomes unavailable, and when it is available again."""
        if (outage is None) != (self._outage is None):
            message = outage or f"hive {self.hive_conn_id!r} is available again"
            log.info("%s", message)
            self._publish(HiveChanges(message=message))
        self._outage = outage

    async def _poll(self, reader: _ReaderThread) -> None:
        now = time.monotonic()
        self._has_new_subscription.clear()
        removed_ids, self._removed_ids = self._removed_ids, set()
        # One poll for several subscriptions is cheaper than one for each, so those due soon are included.
        soon = now + settings.poll_interval()
        due = [subscription for subscription in self._subscriptions if subscription.next_poll <= soon]
        for jobs in merge_jobs(due):
            operation = partial(HiveReader.read_changes, removed_ids=removed_ids, jobs=jobs)
            changes = await reader.run(operation, len(jobs))
            self._publish(changes, jobs)
            self._removed_ids.update(outcome.job_id for outcome in changes.outcomes)
        for subscription in due:
            subscription.schedule_next_poll(time.monotonic())
        if now - reader.stalls_checked_at >= min(settings.stall_check_after(), MAX_BACKOFF_SECONDS) / 2:
            reader.stalls_checked_at = now
            await self._check_stalls(reader)

    async def _check_stalls(self, reader: _ReaderThread) -> None:
        min_seconds = settings.stall_check_after()
        wait_times = {
            job_id: (subscription.waited(), subscription.ready_timeout)
            for subscription in self._subscriptions
            for job_id in subscription.unfinished_ids
        }
        stalls = await reader.run(
            lambda hive_reader: hive_reader.find_stalls(wait_times, min_seconds), len(wait_times)
        )
        self._publish(stalls)

    async def _wait_until_due(self, idle_seconds: float) -> None:
        await asyncio.sleep(idle_seconds)
        next_poll = min((subscription.next_poll for subscription in self._subscriptions), default=0.0)
        try:
            async with asyncio.timeout(max(0.0, next_poll - time.monotonic())):
                await self._has_new_subscription.wait()
        except TimeoutError:
            pass

    def _publish(self, changes: HiveChanges, jobs: Mapping[int, str | None] | None = None) -> None:
        """
        Publish the changes to each subscription that they concern, in one pass over the changes.

        :param jobs: the jobs that were read, with the tokens that were checked.
        """
        parts = {
            subscription: HiveChanges(is_stall_check=changes.is_stall_check, message=changes.message)
            for subscription in self._subscriptions
        }
        subscribers = self._group_by_job(jobs)
        for progress in changes.progress:
            for subscription in subscribers.get(progress.job_id, ()):
                parts[subscription].progress.append(progress)
        for outcome in changes.outcomes:
            for subscription in subscribers.get(outcome.job_id, ()):
                parts[subscription].outcomes.append(outcome)
        for stall in changes.stalls:
            concerned = (subscribers.get(job_id, ()) for job_id in stall.stalled_jobs)
            for subscription in set(chain.from_iterable(concerned)):
                if stall_part := stall.for_roots(subscription.unfinished_ids):
                    parts[subscription].stalls.append(stall_part)
        for subscription, part in parts.items():
            subscription.publish(part)

    def _group_by_job(self, jobs: Mapping[int, str | None] | None) -> dict[int, list[Subscription]]:
        subscribers: dict[int, list[Subscription]] = {}
        for subscription in self._subscriptions:
            for job_id in subscription.unfinished_ids:
                if jobs is None or jobs.get(job_id) == subscription.jobs[job_id]:
                    subscribers.setdefault(job_id, []).append(subscription)
        return subscribers


class _Backoff:
    """Delays between polls after consecutive errors."""

    def __init__(self) -> None:
        self._delay = 0.0
        self._rejected_since: float | None = None

    def next_delay(self, error: EventHooksError) -> float:
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


class _ReaderThread:
    """A ``HiveReader`` in a thread of its own; the poller replaces both after an error."""

    def __init__(self, hive_conn_id: str) -> None:
        self.hive_conn_id = hive_conn_id
        self.stalls_checked_at = time.monotonic()
        self.idle_seconds = 0.0
        """Seconds to leave the hive idle after the last operation."""

        self._reader: HiveReader | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"hive {hive_conn_id}")

    async def run(self, operation: Callable[[HiveReader], HiveChanges], job_count: int) -> HiveChanges:
        """
        Run an operation in the thread.

        :param job_count: number of submitted jobs concerned; the timeout increases with it.
        :raises HiveUnreachable: the hive did not answer in time.
        """
        started = time.monotonic()
        if self._reader is None:
            self._reader = HiveReader(self.hive_conn_id, await resolve_hive_async(self.hive_conn_id))
        timeout = settings.hive_timeout() * (2 + job_count / 1000)
        future = asyncio.get_running_loop().run_in_executor(self._executor, operation, self._reader)
        try:
            async with asyncio.timeout(timeout):
                changes = await future
        except TimeoutError:
            raise HiveUnreachable(self.hive_conn_id, f"no answer within {timeout:.0f} s") from None
        self.idle_seconds = IDLE_FACTOR * (time.monotonic() - started)
        return changes

    def close(self) -> None:
        """Close the connection as soon as the thread is free, without waiting for an operation that hangs."""
        if self._reader:
            self._executor.submit(self._reader.close)
        self._executor.shutdown(wait=False)
