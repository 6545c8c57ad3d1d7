"""Connections of the API server to the hives: a slow hive delays no request that uses another hive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from event_hooks import settings
from event_hooks.api.batcher import Batcher
from event_hooks.exceptions import EventHooksError, HiveRejected, HiveUnreachable
from event_hooks.hive.hook import HiveHook

T = TypeVar("T")

Inputs = Mapping[str, Sequence[str]]
"""``{analysis: inputs}``."""

JobIds = dict[tuple[str, str], int | EventHooksError]
"""``{(analysis, input): job id, or the error that prevented the submission}``."""

READER_THREADS = 4
"""Threads that run read-only operations on one hive."""


class HivePool:
    """
    Submit to hives and read from them, in threads of each hive and with a timeout.

    Each hive has one writer thread and up to ``READER_THREADS`` reader threads.
    """

    def __init__(self) -> None:
        self._writers: dict[str, Batcher[Inputs, JobIds]] = {}
        self._readers: dict[str, ThreadPoolExecutor] = {}

    async def submit(self, hive: str, inputs: Inputs) -> JobIds:
        """
        Submit jobs to a hive, in one batch with the jobs of concurrent requests.

        :raises HiveUnreachable: no answer, or no answer within the setting ``write_through_timeout``. The
            jobs may exist nevertheless, or be created later: a retry with the same inputs returns their ids.
        """
        timeout = settings.write_through_timeout()
        writer = self._writers.get(hive)
        if writer is None:
            submit = partial(_submit, HiveHook(hive, keep_connections=True))
            writer = self._writers[hive] = Batcher(f"hive {hive}", submit)
        if writer.busy_seconds > timeout:
            raise HiveUnreachable(hive, f"no answer for {writer.busy_seconds:.0f} s")
        try:
            return await asyncio.wait_for(writer.submit(inputs), timeout)
        except TimeoutError:
            raise HiveUnreachable(hive, f"no answer within {timeout:g} s") from None

    async def run(
        self, hive: str, operation: Callable[[HiveHook], T], timeout_seconds: float | None = None
    ) -> T:
        """
        Run an operation on a hive in one of its reader threads.

        After the timeout the operation ends as well, before its next statement.

        :param timeout_seconds: defaults to the setting ``view_timeout``.
        :raises HiveUnreachable: no answer, or no answer within the timeout.
        """
        readers = self._readers.get(hive)
        if readers is None:
            readers = self._readers[hive] = ThreadPoolExecutor(
                READER_THREADS, thread_name_prefix=f"hive {hive}"
            )
        timeout = timeout_seconds or settings.view_timeout()
        hook = HiveHook(hive, timeout=timeout)
        result = asyncio.get_running_loop().run_in_executor(readers, operation, hook)
        try:
            return await asyncio.wait_for(result, timeout)
        except TimeoutError:
            raise HiveUnreachable(hive, f"no answer within {timeout:g} s") from None

    async def close(self) -> None:
        """End the threads; a thread that waits for a hive ends with the timeout of its connection."""
        for writer in self._writers.values():
            await writer.close()
        for readers in self._readers.values():
            readers.shutdown(wait=False, cancel_futures=True)


def _submit(hook: HiveHook, requests: Sequence[Inputs]) -> list[JobIds | BaseException]:
    """Submit the inputs of several requests in one transaction."""
    merged: dict[str, dict[str, None]] = {}  # a dict as an ordered set: an input occurs once per analysis
    for request in requests:
        for analysis, inputs in request.items():
            merged.setdefault(analysis, {}).update(dict.fromkeys(inputs))
    job_ids = _submit_merged(hook, {analysis: list(inputs) for analysis, inputs in merged.items()})
    return [
        {(analysis, text): job_ids[analysis, text] for analysis, inputs in request.items() for text in inputs}
        for request in requests
    ]


def _submit_merged(hook: HiveHook, inputs: Inputs) -> JobIds:
    """
    Submit in one transaction.

    If the hive rejects it, submit analysis by analysis, so that a rejected analysis affects no other.
    """
    try:
        job_ids = hook.submit_all(inputs)
    except HiveRejected as error:
        if len(inputs) == 1:
            return {(analysis, text): error for analysis, texts in inputs.items() for text in texts}
        parts = [_submit_merged(hook, {analysis: texts}) for analysis, texts in inputs.items()]
        return {key: job_id for part in parts for key, job_id in part.items()}
    return {
        (analysis, text): job_id
        for analysis, texts in inputs.items()
        for text, job_id in zip(texts, job_ids[analysis], strict=True)
    }
