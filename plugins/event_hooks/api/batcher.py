"""Do in one go what has come in while the last go was under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """
    Many callers, one thread: while one deed is under way, what comes next gathers for the following one.

    Belongs to one event loop. A caller who is cancelled while it waits in line is left out.

    :param deed: takes what has gathered, and gives an answer, or an error, for each; what it raises is the
        answer to all of them.
    """

    def __init__(self, name: str, deed: Callable[[Sequence[T]], Sequence[R | BaseException]]) -> None:
        self._deed = deed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._going: asyncio.Task[None] | None = None
        self._since = 0.0

    @property
    def busy_for(self) -> float:
        """Seconds since the deed that is under way began; 0 if none is."""
        return time.monotonic() - self._since if self._going else 0.0

    async def do(self, one: T) -> R:
        """Have it done, and give its answer."""
        return await self.begin(one)

    def begin(self, one: T) -> asyncio.Future[R]:
        """Have it done, without waiting for it; an error of which nobody asks is logged."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((one, answer))
        if self._going is None:
            self._since = time.monotonic()
            self._going = asyncio.create_task(self._go())
        return answer

    async def close(self) -> None:
        """Let what has come be done, and end the thread."""
        if self._going:
            await asyncio.wait([self._going])
        self._thread.shutdown(wait=False)

    async def _go(self) -> None:
        loop = asyncio.get_running_loop()
        while waiting := [pair for pair in self._waiting if not pair[1].done()]:
            self._waiting = []
            self._since = time.monotonic()
            answers: Sequence[R | BaseException]
            try:
                answers = await loop.run_in_executor(self._thread, self._deed, [one for one, _ in waiting])
            except Exception as error:
                answers = [error] * len(waiting)
            for (_, future), answer in zip(waiting, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, BaseException):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
        self._waiting = []
        self._going = None
