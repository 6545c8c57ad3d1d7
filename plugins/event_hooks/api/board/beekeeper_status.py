"""Whether somebody works on each hive, asked no more often than people look."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_hooks.exceptions import EventHooksError
from event_hooks.hive.hook import HiveHook

if TYPE_CHECKING:
    from event_hooks.api.hive_pool import HivePool

log = logging.getLogger(__name__)

FRESH = 10.0
"""Seconds for which an answer is shown to everybody."""

PATIENCE = 0.5
"""Seconds that a page waits for a new answer; it shows the last one otherwise."""


@dataclass(frozen=True)
class Word:
    """What is known of a beekeeper."""

    is_alive: bool | None
    """None if nobody can tell."""

    text: str


NOT_YET = Word(None, "the hive has not answered yet")


class BeekeeperStatusCache:
    """Ask hives for their beekeepers; a hive that is down or slow holds up no page."""

    def __init__(self, hives: HivePool) -> None:
        self._hives = hives
        self._asked: dict[str, tuple[float, asyncio.Task[Word]]] = {}
        self._told: dict[str, Word] = {}

    async def look(self, hive: str) -> Word:
        """Tell what is known."""
        began, task = self._asked.get(hive, (0.0, None))
        if task is None or (task.done() and time.monotonic() - began > FRESH):
            task = asyncio.create_task(self._ask(hive))
            self._asked[hive] = (time.monotonic(), task)
        await asyncio.wait([task], timeout=PATIENCE)
        return self._told.get(hive, NOT_YET)

    async def _ask(self, hive: str) -> Word:
        try:
            word = Word(*await self._hives.ask(hive, HiveHook.beekeeper))
        except EventHooksError as error:
            word = Word(None, error.public_message)
            if self._told.get(hive) != word:
                log.warning("Told on the event board: %s", error)
        self._told[hive] = word
        return word
