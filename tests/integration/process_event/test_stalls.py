"""Stalls of a process: each time that jobs stall is reported once, also after a restart of the trigger."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from event_hooks.ledger.database import Ledger
from event_hooks.ledger.reports import list_run_reports
from tests.integration.hives import PracticeHive
from tests.integration.process_event.conftest import (
    ANALYSIS,
    RUN_ID,
    accept,
    load_only_status,
    submit,
    wait,
    wait_until,
)
from tests.support.triggerer import Triggerer

pytestmark = pytest.mark.usefixtures("queue")

EXCLUDE = "UPDATE analysis_stats SET is_excluded = 1"
INCLUDE = "UPDATE analysis_stats SET is_excluded = 0"
ADD_BEEKEEPER = (
    "INSERT INTO beekeeper (meadow_host, meadow_user, process_id, loop_until)"
    " VALUES ('a_host', 'me', '4711', 'FOREVER')"
)


@pytest.fixture(autouse=True)
def frequent_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__STALL_CHECK_AFTER", "0.1")


def list_stalls(ledger: Ledger) -> list[str]:
    """Return the status of each report of a stall, in order."""
    bodies: list[Any] = [report.body for report in list_run_reports(ledger, RUN_ID)]
    stalled = [body for body in bodies if body["params"]["event_hooks"]["step"] == "stalled"]
    return [body["message"].partition('"status": "')[2].partition('"')[0] for body in stalled]


async def test_a_stall_that_passes_and_returns_is_reported_again(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    hive.execute(ADD_BEEKEEPER)
    submit(accept(ledger, [({"type": "new_assembly"}, [("dump", hive.conn_id, ANALYSIS)])]))
    waiting = asyncio.create_task(wait(triggerer))
    for count in (1, 2):
        hive.execute(EXCLUDE)
        await wait_until(lambda: load_only_status(ledger).stalls)
        assert list_stalls(ledger) == ["excluded"] * count
        hive.execute(INCLUDE)
        await wait_until(lambda: not load_only_status(ledger).stalls)
    await asyncio.to_thread(hive.run_jobs)
    await waiting


async def test_a_restarted_trigger_reports_the_same_stall_once(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    hive.execute(ADD_BEEKEEPER)
    hive.execute(EXCLUDE)
    submit(accept(ledger, [({"type": "new_assembly"}, [("dump", hive.conn_id, ANALYSIS)])]))
    for _ in range(2):
        waiting = asyncio.create_task(wait(triggerer))
        await wait_until(lambda: load_only_status(ledger).stalls)
        await asyncio.sleep(1)
        waiting.cancel()
    assert list_stalls(ledger) == ["excluded"]
