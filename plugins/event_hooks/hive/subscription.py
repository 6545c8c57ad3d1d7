"""Subscriptions of waits to the jobs of one hive, which the poller polls together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Set
from typing import TYPE_CHECKING

from event_hooks import settings
from event_hooks.hive.reader import HiveChanges, Wait

if TYPE_CHECKING:
    from event_hooks.exceptions import HiveRejected

POLLS_PER_AGE = 10
"""The poll interval of a subscription is the time waited so far divided by this, within the settings."""

MAX_UNREAD_UPDATES = 10
"""Updates after which a wait that does not keep up is not polled for: it may have stored no outcome yet."""


class Subscription:
    """
    The jobs of one wait, and a queue of updates about them.

    :param jobs: ``{job_id: token}``, a text that the job's input contains; ``None`` means that it is not
        checked.
    :param ready_timeout: seconds after which a READY job is stalled.
    :param waited: seconds that a trigger waited for these jobs before Airflow restarted it here.
    """

    def __init__(self, jobs: Mapping[int, str | None], ready_timeout: float, waited: float) -> None:
        self.jobs = jobs
        self.unfinished_ids = set(jobs)
        self.ready_timeout = ready_timeout
        self.next_poll = 0.0
        self.updates: asyncio.Queue[HiveChanges | HiveRejected] = asyncio.Queue()
        self._subscribed_at = time.monotonic()
        self._waited_before = waited
        self._is_stalled = False

    def waited(self) -> float:
        """Return the seconds waited for these jobs, including the time before a restart."""
        return self._waited_before + time.monotonic() - self._subscribed_at

    @property
    def is_behind(self) -> bool:
        """Whether the wait has many unread updates."""
        return self.updates.qsize() >= MAX_UNREAD_UPDATES

    def schedule_next_poll(self, now: float, *, is_partial: bool = False) -> None:
        """
        Set the time of the next poll: the interval increases with the time waited.

        :param is_partial: whether the last poll has left finished jobs for this one.
        """
        age = 0.0 if is_partial else self.waited()
        interval = max(age / POLLS_PER_AGE, settings.poll_interval())
        self.next_poll = now + min(interval, settings.max_poll_interval())

    def to_wait(self) -> Wait:
        """Return the present state of the wait for :meth:`HiveReader.find_stalls_of_waits`."""
        return Wait(frozenset(self.unfinished_ids), self.waited(), self.ready_timeout)

    def select_read(self, jobs: Mapping[int, str | None], job_ids: Set[int]) -> list[int]:
        """Return the unfinished jobs among ``job_ids`` that were read with the expected token, sorted."""
        return sorted(
            job_id for job_id in job_ids & self.unfinished_ids if jobs.get(job_id) == self.jobs[job_id]
        )

    def publish(self, changes: HiveChanges) -> bool:
        """
        Queue changes of these jobs, and return whether there are any.

        A check without stalls is queued only once after a stall.
        """
        self.unfinished_ids.difference_update(outcome.job_id for outcome in changes.outcomes)
        if changes.is_stall_check:
            changes.is_stall_check = bool(changes.stalls) or self._is_stalled
            self._is_stalled = bool(changes.stalls)
        has_changes = changes != HiveChanges()
        if has_changes:
            self.updates.put_nowait(changes)
        return has_changes


def merge_jobs(subscriptions: Iterable[Subscription]) -> list[dict[int, str | None]]:
    """
    Return the unfinished jobs of all subscriptions with their tokens.

    If a hive was created again, two subscriptions may expect different tokens of one job. The second token
    is in a mapping of its own.
    """
    groups: list[dict[int, str | None]] = [{}]
    for subscription in subscriptions:
        for job_id in subscription.unfinished_ids:
            token = subscription.jobs[job_id]
            if not any(group.setdefault(job_id, token) == token for group in groups):
                groups.append({job_id: token})
    return groups
