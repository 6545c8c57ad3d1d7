"""Cache the status of the hives' beekeepers for the pages of the event board."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from event_hooks.exceptions import EventHooksError
from event_hooks.hive.hook import HiveHook
from event_hooks.hive.sql.beekeepers import BeekeeperStatus

if TYPE_CHECKING:
    from event_hooks.api.hive_pool import HivePool

log = logging.getLogger(__name__)

CACHE_SECONDS = 10.0
"""Time for which a status is cached for all pages: page views do not add to the load on a hive."""

WAIT_SECONDS = 0.5
"""Time that a page waits for a new status before it shows the cached one."""


PENDING = BeekeeperStatus(None, "the hive has not answered yet")


class BeekeeperStatusCache:
    """Query the beekeepers of hives in the background: an unavailable or slow hive blocks no page."""

    def __init__(self, hives: HivePool) -> None:
        self._hives = hives
        self._queries: dict[str, tuple[float, asyncio.Task[BeekeeperStatus]]] = {}
        self._statuses: dict[str, BeekeeperStatus] = {}

    async def load(self, hive: str) -> BeekeeperStatus:
        """Return the status of a hive's beekeeper, at most ``WAIT_SECONDS`` later."""
        started_at, task = self._queries.get(hive, (0.0, None))
        if task is None or (task.done() and time.monotonic() - started_at > CACHE_SECONDS):
            task = asyncio.create_task(self._query(hive))
            self._queries[hive] = (time.monotonic(), task)
        await asyncio.wait([task], timeout=WAIT_SECONDS)
        return self._statuses.get(hive, PENDING)

    async def _query(self, hive: str) -> BeekeeperStatus:
        try:
            status = await self._hives.run(hive, HiveHook.load_beekeeper_status)
        except EventHooksError as error:
            status = BeekeeperStatus(None, error.public_message)
            if self._statuses.get(hive) != status:
                log.warning("The event board shows an unknown beekeeper: %s", error)
        self._statuses[hive] = status
        return status
