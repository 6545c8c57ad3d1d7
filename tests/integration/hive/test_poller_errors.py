"""Errors that must not fail the waits of a hive: in the poller itself, and in the check for stalled jobs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest

from event_hooks.hive import poller
from event_hooks.hive.poller import get_poller
from event_hooks.hive.reader import HiveChanges
from event_hooks.hive.sql.job_trees import JobState
from tests.integration.hive.conftest import MakeHive, record_statements, submit_jobs
from tests.integration.hives import PracticeHive

LIMIT = 20

pytestmark = pytest.mark.usefixtures("fast_polling", "impatient")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry soon, fail a wait at the second rejection, and check for stalled jobs at each poll."""
    monkeypatch.setattr(poller, "MAX_BACKOFF_SECONDS", 0.1)
    monkeypatch.setattr(poller, "MAX_REJECTION_SECONDS", 0.0)
    monkeypatch.setattr(poller, "IDLE_FACTOR", 0)
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__STALL_CHECK_AFTER", "0.01")


async def collect_changes(hive: PracticeHive, job_ids: list[int]) -> list[HiveChanges]:
    """Return all changes of a wait."""
    async with asyncio.timeout(LIMIT):
        return [changes async for changes in get_poller(hive.conn_id).subscribe(dict.fromkeys(job_ids), 3600)]


def list_tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages that the poller logged with a traceback."""
    return [
        record.getMessage() for record in caplog.records if record.name == poller.__name__ and record.exc_info
    ]


@contextmanager
def failing_threads() -> Iterator[list[str]]:
    """Let no thread of a poller start; yield a list of the names of these threads."""
    names: list[str] = []
    start = threading.Thread.start

    def start_or_fail(thread: threading.Thread) -> None:
        if not thread.name.startswith("hive "):
            return start(thread)
        names.append(thread.name)
        raise RuntimeError("can't start new thread")

    with mock.patch.object(threading.Thread, "start", start_or_fail):
        yield names


async def test_a_thread_that_cannot_start_delays_the_waits(
    hive: PracticeHive, caplog: pytest.LogCaptureFixture
) -> None:
    job_ids = submit_jobs(hive)
    await asyncio.to_thread(hive.run_jobs)
    with failing_threads() as names:
        waits = [asyncio.create_task(collect_changes(hive, job_ids)) for _ in range(2)]
        async with asyncio.timeout(LIMIT):
            while len(names) < 3:
                await asyncio.sleep(0.01)
    message = f'polling of hive {hive.conn_id!r} failed: RuntimeError("can\'t start new thread")'
    for changes in await asyncio.gather(*waits):
        outage, finished = changes
        assert outage.message == f"{message}; retrying with increasing delays"
        assert finished.outcomes[0].state is JobState.COMPLETE
    assert list_tracebacks(caplog) == [message]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("ALTER TABLE worker RENAME TO elsewhere", "no such table: worker"),
        ("ALTER TABLE worker RENAME COLUMN when_seen TO elsewhere", "no such column: worker.when_seen"),
    ],
    ids=["table", "column"],
)
async def test_a_check_for_stalled_jobs_that_fails_affects_no_wait(
    make_hive: MakeHive, caplog: pytest.LogCaptureFixture, change: str, reason: str
) -> None:
    hive = make_hive("sqlite")
    hive.execute(change)
    job_id = hive.add_job(status="RUN")
    with record_statements() as statements:
        wait = asyncio.create_task(collect_changes(hive, [job_id]))
        while sum("FROM job LEFT OUTER JOIN role" in statement for statement in statements) < 3:
            assert not wait.done()
            await asyncio.sleep(0.01)
    hive.complete_jobs()
    progress, finished = await wait
    assert (progress.message, finished.message) == (None, None)
    assert finished.outcomes[0].state is JobState.COMPLETE
    (message,) = list_tracebacks(caplog)
    assert reason in message
