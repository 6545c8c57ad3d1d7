"""Waiting for jobs of several hives at once, in one event loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from event_hooks.hive.poller import HivePoller
from event_hooks.hive.reader import HiveChanges
from event_hooks.hive.sql.job_trees import State
from tests.integration.hive.conftest import MakeHive, submit, until_over

LIMIT = 20

pytestmark = pytest.mark.usefixtures("quick")


async def test_hives_with_equal_job_ids_are_never_mixed_up(make_hive: MakeHive) -> None:
    complete, failed, running = (make_hive(server) for server in ("mysql", "sqlite", "mysql"))
    last = max(hive.add_job(status="DONE") for hive in (complete, failed, running))
    for hive in (complete, failed, running):
        hive.add_job(job_id=last + 1, status="DONE")
    job_ids = submit(complete, 3)
    assert job_ids == submit(running, 3) == submit(failed, 3, fail="child")
    waits = [asyncio.create_task(until_over(hive, job_ids)) for hive in (complete, failed, running)]
    await asyncio.gather(asyncio.to_thread(complete.work), asyncio.to_thread(failed.work))
    async with asyncio.timeout(LIMIT):
        ended = [{outcome.state for outcome in await wait} for wait in waits[:2]]
    assert ended == [{State.COMPLETE}, {State.FAILED}]
    assert not waits[2].done()
    await asyncio.to_thread(running.work)
    async with asyncio.timeout(LIMIT):
        assert {outcome.state for outcome in await waits[2]} == {State.COMPLETE}


@pytest.mark.alone
async def test_a_hive_that_hangs_does_not_delay_the_news_of_another(
    make_hive: MakeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It accepts connections, and says nothing."""
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__HIVE_TIMEOUT", "2")
    hive = make_hive("mysql")
    called = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []  # one that is dropped closes its connection, from Python 3.13 on

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        called.set()

    silent = await asyncio.start_server(accept, "127.0.0.1")
    port = silent.sockets[0].getsockname()[1]
    monkeypatch.setenv("AIRFLOW_CONN_HIVE_SILENT", f"mysql://u:p@127.0.0.1:{port}/hive")

    async def first_news() -> HiveChanges:
        async for news in HivePoller("hive_silent").watch([1], 3600):
            return news
        raise AssertionError("it ended without news")

    async with asyncio.timeout(LIMIT):
        hanging = asyncio.create_task(first_news())
        await called.wait()
        others = asyncio.create_task(until_over(hive, submit(hive)))
        await asyncio.to_thread(hive.work)
        over_at = time.monotonic()
        assert (await others)[0].state is State.COMPLETE
        assert time.monotonic() - over_at < 1
        assert not hanging.done()
        assert (await hanging).word is not None
    silent.close()
