"""Waiting for jobs of several hives at once, in one event loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from event_hooks.hive.poller import HivePoller
from event_hooks.hive.reader import HiveChanges
from event_hooks.hive.sql.job_trees import JobState
from tests.integration.hive.conftest import MakeHive, submit_jobs, wait_for_outcomes

LIMIT = 20

pytestmark = pytest.mark.usefixtures("fast_polling")


async def test_equal_job_ids_of_two_hives_are_distinguished(make_hive: MakeHive) -> None:
    complete, failed, running = (make_hive(server) for server in ("mysql", "sqlite", "mysql"))
    last_id = max(hive.add_job(status="DONE") for hive in (complete, failed, running))
    for hive in (complete, failed, running):
        hive.add_job(job_id=last_id + 1, status="DONE")
    job_ids = submit_jobs(complete, 3)
    assert job_ids == submit_jobs(running, 3) == submit_jobs(failed, 3, fail="child")
    waits = [asyncio.create_task(wait_for_outcomes(hive, job_ids)) for hive in (complete, failed, running)]
    await asyncio.gather(asyncio.to_thread(complete.run_jobs), asyncio.to_thread(failed.run_jobs))
    async with asyncio.timeout(LIMIT):
        states = [{outcome.state for outcome in await wait} for wait in waits[:2]]
    assert states == [{JobState.COMPLETE}, {JobState.FAILED}]
    assert not waits[2].done()
    await asyncio.to_thread(running.run_jobs)
    async with asyncio.timeout(LIMIT):
        assert {outcome.state for outcome in await waits[2]} == {JobState.COMPLETE}


@pytest.mark.alone
async def test_a_hive_that_hangs_does_not_delay_events_of_another(
    make_hive: MakeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server accepts connections, and sends nothing."""
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__HIVE_TIMEOUT", "2")
    hive = make_hive("mysql")
    connected = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []  # Python 3.13 closes an unreferenced writer.

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        connected.set()

    silent_server = await asyncio.start_server(accept, "127.0.0.1")
    port = silent_server.sockets[0].getsockname()[1]
    monkeypatch.setenv("AIRFLOW_CONN_HIVE_SILENT", f"mysql://u:p@127.0.0.1:{port}/hive")

    async def read_first_changes() -> HiveChanges:
        async for changes in HivePoller("hive_silent").subscribe({1: None}, 3600):
            return changes
        raise AssertionError("the poller ended without changes")

    async with asyncio.timeout(LIMIT):
        hanging = asyncio.create_task(read_first_changes())
        await connected.wait()
        other_wait = asyncio.create_task(wait_for_outcomes(hive, submit_jobs(hive)))
        await asyncio.to_thread(hive.run_jobs)
        finished_at = time.monotonic()
        assert (await other_wait)[0].state is JobState.COMPLETE
        assert time.monotonic() - finished_at < 1
        assert not hanging.done()
        assert (await hanging).message is not None
    silent_server.close()
