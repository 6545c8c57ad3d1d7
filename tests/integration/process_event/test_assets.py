"""Asset events of processes that complete, on a real ledger and a real hive."""

from __future__ import annotations

import asyncio

import pytest
from airflow.sdk import Asset

from event_hooks.ledger.asset_events import PendingAssetEvent, register_pending
from event_hooks.ledger.database import Ledger
from event_hooks.process_event.wait import EventJobSensor
from tests.integration.hives import PracticeHive
from tests.integration.process_event.conftest import ANALYSIS, accept, submit, wait
from tests.support.triggerer import Triggerer

pytestmark = pytest.mark.usefixtures("queue")

EVENT = {"type": "new_assembly"}


def drain(ledger: Ledger) -> list[tuple[str | None, str | None]]:
    """Return process and attempt of the pending asset events, as registered."""
    registered: list[PendingAssetEvent] = []
    register_pending(ledger, registered.extend, 100)
    return [(pending.process, pending.attempt) for pending in registered]


async def test_a_completed_job_has_an_asset_event_and_none_after_its_wait_is_cleared(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    submit(accept(ledger, [(EVENT, [("dump", hive.conn_id, ANALYSIS)])]))
    await asyncio.to_thread(hive.run_jobs)
    await wait(triggerer)
    assert drain(ledger) == [("dump", "try1")]
    await wait(triggerer, "try2")
    assert drain(ledger) == []


def test_a_wait_that_succeeds_at_its_timeout_registers_no_outlets(ledger: Ledger, hive: PracticeHive) -> None:
    """It ends in a worker, where Airflow would register an asset event without genome and job."""
    run = accept(ledger, [(EVENT, [("dump", hive.conn_id, ANALYSIS)])])
    submit(run)
    hive.run_jobs()
    sensor = EventJobSensor(
        task_id="wait", process="dump", ready_timeout=60, outlets=[Asset("process/dump")], timeout=60
    )
    assert sensor.outlets
    assert sensor.summarize_after_timeout(run.build_context("dump.wait")).state == "success"
    assert sensor.outlets == []
    assert drain(ledger) == [("dump", "try1")]
