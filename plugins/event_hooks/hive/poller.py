"""
One look at a hive for all that wait for it.

All triggers of a triggerer run in one event loop, so a dictionary of that loop is enough to find each other.
Each hive has a thread of its own: a hive that hangs holds up no other, and reading many jobs does not hold up
the triggerer (the drivers for event loops are Python, and blocked it for 0.7 s with 1,000 jobs).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakKeyDictionary

from event_hooks import settings
from event_hooks.exceptions import EventHooksError, HiveRejected, HiveUnreachable
from event_hooks.hive.connection import resolve_hive_async
from event_hooks.hive.reader import HiveChanges, HiveReader

log = logging.getLogger(__name__)

MAX_PAUSE = 60.0
"""Seconds between two looks at a hive that does not answer."""

PATIENCE = 3600.0
"""Seconds that a hive may refuse to be read, as during a restore or a change of password."""

AGING = 10
"""A wait that is this many times as old as an interval long is looked at once in that interval."""

REST = 3
"""How many times as long as a look a hive is left alone after it."""


class Subscription:
    """
    Somebody waits for jobs.

    :param limit: seconds after which a job that is READY should have been picked up.
    :param waited: seconds that these jobs were waited for before, by a trigger that was restarted.
    """

    def __init__(self, job_ids: Sequence[int], limit: float, waited: float) -> None:
        self.open = set(job_ids)
        self.limit = limit
        self._began = time.monotonic()
        self._waited = waited
        self.next_look = 0.0
        self._is_held_up = False
        self.news: asyncio.Queue[HiveChanges | EventHooksError] = asyncio.Queue()

    def waited(self) -> float:
        """Give the seconds that these jobs have been waited for, also before a restart."""
        return self._waited + time.monotonic() - self._began

    def looked_at(self, now: float) -> None:
        """Choose the next look: soon while the wait is young, later as it ages."""
        interval = max(self.waited() / AGING, settings.poll_interval())
        self.next_look = now + min(interval, settings.max_poll_interval())

    def tell(self, mine: HiveChanges) -> None:
        """Pass on what concerns these jobs, and once that nothing holds them up any longer."""
        self.open.difference_update(outcome.job_id for outcome in mine.outcomes)
        if mine.is_stall_check:
            mine.is_stall_check, self._is_held_up = bool(mine.stalls) or self._is_held_up, bool(mine.stalls)
        if mine != HiveChanges():
            self.news.put_nowait(mine)


class HivePoller:
    """
    Look at one hive at intervals, for as long as anybody waits for one of its jobs.

    :param hive_conn_id: connection of the hive.
    """

    def __init__(self, hive_conn_id: str) -> None:
        self.hive_conn_id = hive_conn_id
        self._watches: set[Subscription] = set()
        self._left: set[int] = set()
        self._arrival = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._absence: str | None = None

    async def watch(
        self, job_ids: Sequence[int], limit: float, waited: float = 0
    ) -> AsyncIterator[HiveChanges]:
        """
        Yield what becomes of these jobs, and of all that grows from them, until all are over.

        A hive that does not answer is asked again, with growing pauses, for as long as it takes; one that
        answers and refuses, for an hour.

        :param limit: as in :class:`Watch`, as ``waited``.
        :raises HiveRejected: if the hive cannot be read for an hour.
        """
        watch = Subscription(job_ids, limit, waited)
        self._watches.add(watch)
        self._arrival.set()
        if self._absence:
            watch.tell(HiveChanges(word=self._absence))
        if self._task is None:
            self._start()
        try:
            while watch.open or not watch.news.empty():
                news = await watch.news.get()
                if isinstance(news, EventHooksError):
                    raise news
                yield news
        finally:
            self._watches.discard(watch)
            self._left.update(job_ids)

    def _start(self) -> None:
        # A context of its own: what it logs belongs to no task, and goes to the triggerer's log.
        self._task = asyncio.create_task(self._look_while_watched(), context=contextvars.Context())
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Leave nobody waiting for ever: pass an error on, begin again for who came last."""
        self._task = None
        if task.cancelled():
            return
        if error := task.exception():
            if isinstance(error, EventHooksError):
                told: EventHooksError = error
            else:
                log.error("Looking at hive %r failed", self.hive_conn_id, exc_info=error)
                told = HiveRejected(self.hive_conn_id, f"looking at it failed: {error!r}")
            for watch in self._watches:
                watch.news.put_nowait(told)
        elif self._watches:
            self._start()

    async def _look_while_watched(self) -> None:
        visit = _Visit(self.hive_conn_id)
        refusing_since, pause = None, 0.0
        try:
            while self._watches:
                try:
                    await self._look(visit)
                except EventHooksError as error:
                    is_refusal = isinstance(error, HiveRejected)
                    refusing_since = (refusing_since or time.monotonic()) if is_refusal else None
                    if refusing_since and time.monotonic() - refusing_since > PATIENCE:
                        raise
                    self._say(f"{error}; it is asked again, with growing pauses", away=True)
                    pause = min(max(1.0, 2 * pause), MAX_PAUSE)
                    log.warning("%s; next look in %.0f s", error, pause)
                    # The next look asks Airflow again: the connection may have been mended meanwhile.
                    visit.end()
                    visit = _Visit(self.hive_conn_id)
                    await asyncio.sleep(pause)
                else:
                    refusing_since, pause = None, 0.0
                    self._say(f"hive {self.hive_conn_id!r} answers again", away=False)
                    await self._until_due(visit.rest)
        finally:
            visit.end()

    def _say(self, word: str, *, away: bool) -> None:
        """Tell all who wait when a hive stops to answer, and when it answers again."""
        if away != (self._absence is not None):
            log.info("%s", word)
            self._tell(HiveChanges(word=word))
        self._absence = word if away else None

    async def _look(self, visit: _Visit) -> None:
        now = time.monotonic()
        self._arrival.clear()
        left, self._left = self._left, set()
        # Who is due soon comes along: one look for all costs less than one for each.
        due = [watch for watch in self._watches if watch.next_look <= now + settings.poll_interval()]
        entries = {entry for watch in due for entry in watch.open}
        found = await visit.do(lambda visitor: visitor.look(left, entries), len(entries))
        self._tell(found)
        self._left.update(outcome.job_id for outcome in found.outcomes)
        for watch in due:
            watch.looked_at(time.monotonic())
        least = settings.stall_check_after()
        if now - visit.diagnosed_at >= min(least, MAX_PAUSE) / 2:
            visit.diagnosed_at = now
            limits = {entry: (watch.waited(), watch.limit) for watch in self._watches for entry in watch.open}
            self._tell(await visit.do(lambda visitor: visitor.diagnose(limits, least), len(limits)))

    async def _until_due(self, rest: float) -> None:
        await asyncio.sleep(rest)
        earliest = min((watch.next_look for watch in self._watches), default=0.0)
        try:
            async with asyncio.timeout(max(0.0, earliest - time.monotonic())):
                await self._arrival.wait()
        except TimeoutError:
            pass

    def _tell(self, found: HiveChanges) -> None:
        """Give each watch its part; goes through the findings once, however many watches there are."""
        parts = {
            watch: HiveChanges(is_stall_check=found.is_stall_check, word=found.word)
            for watch in self._watches
        }
        whose: dict[int, list[Subscription]] = {}
        for watch in self._watches:
            for job_id in watch.open:
                whose.setdefault(job_id, []).append(watch)
        for progress in found.progress:
            for watch in whose.get(progress.job_id, ()):
                parts[watch].progress.append(progress)
        for outcome in found.outcomes:
            for watch in whose.get(outcome.job_id, ()):
                parts[watch].outcomes.append(outcome)
        for stall in found.stalls:
            for watch in {watch for entry in stall.stalled_jobs for watch in whose.get(entry, ())}:
                if its := stall.of(watch.open):
                    parts[watch].stalls.append(its)
        for watch, mine in parts.items():
            watch.tell(mine)


class _Visit:
    """A visitor in its thread, from its first look to its first error."""

    def __init__(self, hive_conn_id: str) -> None:
        self.hive_conn_id = hive_conn_id
        self.diagnosed_at = time.monotonic()
        self.rest = 0.0
        self._visitor: HiveReader | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"hive {hive_conn_id}")

    async def do(self, work: Callable[[HiveReader], HiveChanges], jobs: int) -> HiveChanges:
        """Do some work in the thread, within a limit that grows with the number of jobs."""
        began = time.monotonic()
        if self._visitor is None:
            self._visitor = HiveReader(self.hive_conn_id, await resolve_hive_async(self.hive_conn_id))
        limit = settings.hive_timeout() * (2 + jobs / 1000)
        working = asyncio.get_running_loop().run_in_executor(self._thread, work, self._visitor)
        try:
            async with asyncio.timeout(limit):
                found = await working
        except TimeoutError:
            raise HiveUnreachable(self.hive_conn_id, f"no answer within {limit:.0f} s") from None
        self.rest = REST * (time.monotonic() - began)
        return found

    def end(self) -> None:
        """Close the connection once the thread is free; what hangs in it is left alone."""
        if self._visitor:
            self._thread.submit(self._visitor.close)
        self._thread.shutdown(wait=False)


def get_poller(hive_conn_id: str) -> HivePoller:
    """Give the one poller of this hive in this event loop."""
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    return pollers.setdefault(hive_conn_id, HivePoller(hive_conn_id))


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, HivePoller]] = WeakKeyDictionary()
