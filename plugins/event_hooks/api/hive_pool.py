"""Hives as the API server speaks to them: none of them can hold up what concerns another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from event_hooks import settings
from event_hooks.api.batcher import Batcher
from event_hooks.exceptions import EventHooksError, HiveRejected, HiveUnreachable
from event_hooks.hive.hook import HiveHook

T = TypeVar("T")

Inputs = Mapping[str, Sequence[str]]
"""``{analysis: inputs}``."""

JobIds = dict[tuple[str, str], int | EventHooksError]
"""``{(analysis, input): job id, or why there is none}``."""

READERS = 4
"""Threads that look at one hive."""


class HivePool:
    """Submit to hives, and look at them, each in threads of its own and for a limited time."""

    def __init__(self) -> None:
        self._writers: dict[str, Batcher[Inputs, JobIds]] = {}
        self._readers: dict[str, ThreadPoolExecutor] = {}

    async def submit(self, hive: str, inputs: Inputs) -> JobIds:
        """
        Put jobs into a hive, together with those of other requests.

        :raises HiveUnreachable: no answer, or none within the setting ``write_through_timeout``. The jobs may
            be there none the less, or come to be there: the same again finds them.
        """
        limit = settings.write_through_timeout()
        writer = self._writers.get(hive)
        if writer is None:
            writer = self._writers[hive] = Batcher(f"hive {hive}", _Writer(hive).submit)
        if writer.busy_for > limit:
            raise HiveUnreachable(hive, f"no answer for {writer.busy_for:.0f} s")
        try:
            return await asyncio.wait_for(writer.do(inputs), limit)
        except TimeoutError:
            raise HiveUnreachable(hive, f"no answer within {limit:g} s") from None

    async def ask(self, hive: str, question: Callable[[HiveHook], T], limit: float | None = None) -> T:
        """
        Ask a hive something.

        :param limit: seconds; default the setting ``view_timeout``.
        :raises HiveUnreachable: no answer, or none in time.
        """
        readers = self._readers.get(hive)
        if readers is None:
            readers = self._readers[hive] = ThreadPoolExecutor(READERS, thread_name_prefix=f"hive {hive}")
        limit = limit or settings.view_timeout()
        asked = asyncio.get_running_loop().run_in_executor(readers, lambda: question(HiveHook(hive)))
        try:
            return await asyncio.wait_for(asked, limit)
        except TimeoutError:
            raise HiveUnreachable(hive, f"no answer within {limit:g} s") from None

    async def close(self) -> None:
        """End the threads; one that waits for a hive ends by the hive's own time limit."""
        for writer in self._writers.values():
            await writer.close()
        for readers in self._readers.values():
            readers.shutdown(wait=False, cancel_futures=True)


class _Writer:
    """Puts jobs into one hive, over a connection that is kept as long as all goes well."""

    def __init__(self, hive: str) -> None:
        self.hook = HiveHook(hive, keeps=True)

    def submit(self, errands: Sequence[Inputs]) -> list[JobIds | BaseException]:
        """Submit for several requests in one transaction."""
        try:
            return _submit(self.hook, errands)
        except EventHooksError:
            self.hook.close()  # the address may be another one by now
            raise


def _submit(hook: HiveHook, errands: Sequence[Inputs]) -> list[JobIds | BaseException]:
    gathered: dict[str, dict[str, None]] = {}
    for errand in errands:
        for analysis, inputs in errand.items():
            gathered.setdefault(analysis, {}).update(dict.fromkeys(inputs))
    found = _job_ids(hook, {analysis: list(inputs) for analysis, inputs in gathered.items()})
    return [
        {(analysis, text): found[analysis, text] for analysis, inputs in errand.items() for text in inputs}
        for errand in errands
    ]


def _job_ids(hook: HiveHook, inputs: Inputs) -> JobIds:
    """Submit in one transaction; if the hive refuses, analysis by analysis: one shall spoil no other."""
    try:
        submitted = hook.submit_all(inputs)
    except HiveRejected as refusal:
        if len(inputs) == 1:
            return {(analysis, text): refusal for analysis, texts in inputs.items() for text in texts}
        parts = [_job_ids(hook, {analysis: texts}) for analysis, texts in inputs.items()]
        return {key: job_id for part in parts for key, job_id in part.items()}
    return {
        (analysis, text): job_id
        for analysis, texts in inputs.items()
        for text, job_id in zip(texts, submitted[analysis], strict=True)
    }
