"""The report of a process that takes longer than its ``late_after``."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from event_hooks import lateness
from event_hooks.ledger.ledger import Ledger
from event_hooks.ledger.records import Received, key_of
from tests.integration.ledger.test_ledger import planned

pytestmark = [
    pytest.mark.parametrize("server", ["postgresql"], indirect=True),
    pytest.mark.usefixtures("queue"),
]

CONTEXT = {"dag_run": {"dag_run_id": "run"}, "deadline": {"deadline_time": datetime.now(UTC)}}


EVENT = Received(key_of("new_assembly", "1"), "new_assembly", None, {"type": "new_assembly"}, "rest")


def steps(ledger: Ledger) -> list[str]:
    """Return the messages of the run's reports, without their details."""
    return [json.loads(kept.body)["message"].partition(":")[0] for kept in ledger.reports_of("run")]


async def test_a_process_that_is_late_is_reported_once(ledger: Ledger) -> None:
    (entry,) = ledger.accept([EVENT], "run")
    ledger.plan("run", planned(entry.id))
    for _ in range(2):
        await lateness.tell("dump", 3, CONTEXT)
    assert steps(ledger) == ["Event late"]


async def test_a_deadline_before_the_plan_is_reported_with_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The route task of a busy machine may come after the deadline."""
    polls, poll = [], lateness._owe

    def counted(*arguments: Any) -> bool:
        polls.append(poll(*arguments))
        return polls[-1]

    monkeypatch.setattr(lateness, "_owe", counted)
    monkeypatch.setattr(lateness, "PLAN_POLL_SECONDS", 0.1)
    telling = asyncio.create_task(lateness.tell("dump", 3, CONTEXT))
    async with asyncio.timeout(20):
        while len(polls) < 3:
            await asyncio.sleep(0.02)
    assert not telling.done()
    (entry,) = ledger.accept([EVENT], "run")
    ledger.plan("run", planned(entry.id))
    await asyncio.wait_for(telling, 20)
    assert steps(ledger) == ["Event late"]


async def test_a_run_without_processes_is_not_waited_for(ledger: Ledger) -> None:
    ledger.accept([EVENT], "run")
    ledger.plan("run", [])
    await asyncio.wait_for(lateness.tell("dump", 3, CONTEXT), 5)
    assert steps(ledger) == []


async def test_waiting_for_a_plan_times_out_also_after_a_restart_of_the_callback(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    passed = str(datetime.now(UTC) - lateness.PLAN_TIMEOUT)
    await asyncio.wait_for(lateness.tell("dump", 3, CONTEXT | {"deadline": {"deadline_time": passed}}), 5)
    assert "Run run has no plan" in caplog.text
    assert steps(ledger) == []
