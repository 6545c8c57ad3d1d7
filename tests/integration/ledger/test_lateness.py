"""The report of a process that takes longer than its ``deadline``."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events
from event_hooks.ledger.processes import store_plan
from event_hooks.ledger.records import NewEvent, event_key
from event_hooks.ledger.reports import list_run_reports
from event_hooks.process_event import deadlines
from tests.integration.ledger.test_ledger import planned

pytestmark = [
    pytest.mark.parametrize("server", ["postgresql"], indirect=True),
    pytest.mark.usefixtures("queue"),
]

CONTEXT = {"dag_run": {"dag_run_id": "run"}, "deadline": {"deadline_time": datetime.now(UTC)}}


EVENT = NewEvent(event_key("new_assembly", "1"), "new_assembly", None, {"type": "new_assembly"}, "rest")


def steps(ledger: Ledger) -> list[str]:
    """Return the messages of the run's reports, without their details."""
    return [json.loads(kept.body)["message"].partition(":")[0] for kept in list_run_reports(ledger, "run")]


async def test_a_process_that_is_late_is_reported_once(ledger: Ledger) -> None:
    (entry,) = accept_events(ledger, [EVENT], "run")
    store_plan(ledger, "run", planned(entry.id))
    for _ in range(2):
        await deadlines.tell("dump", 3, CONTEXT)
    assert steps(ledger) == ["Event late"]


async def test_a_deadline_before_the_plan_is_reported_with_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The route task of a busy machine may come after the deadline."""
    polls, poll = [], deadlines._owe

    def counted(*arguments: Any) -> bool:
        polls.append(poll(*arguments))
        return polls[-1]

    monkeypatch.setattr(deadlines, "_owe", counted)
    monkeypatch.setattr(deadlines, "PLAN_POLL_SECONDS", 0.1)
    telling = asyncio.create_task(deadlines.tell("dump", 3, CONTEXT))
    async with asyncio.timeout(20):
        while len(polls) < 3:
            await asyncio.sleep(0.02)
    assert not telling.done()
    (entry,) = accept_events(ledger, [EVENT], "run")
    store_plan(ledger, "run", planned(entry.id))
    await asyncio.wait_for(telling, 20)
    assert steps(ledger) == ["Event late"]


async def test_a_run_without_processes_is_not_waited_for(ledger: Ledger) -> None:
    accept_events(ledger, [EVENT], "run")
    store_plan(ledger, "run", [])
    await asyncio.wait_for(deadlines.tell("dump", 3, CONTEXT), 5)
    assert steps(ledger) == []


async def test_waiting_for_a_plan_times_out_also_after_a_restart_of_the_callback(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    passed = str(datetime.now(UTC) - deadlines.PLAN_TIMEOUT)
    await asyncio.wait_for(deadlines.tell("dump", 3, CONTEXT | {"deadline": {"deadline_time": passed}}), 5)
    assert "Run run has no plan" in caplog.text
    assert steps(ledger) == []
