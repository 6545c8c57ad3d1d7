"""The report of a process that takes longer than its ``deadline``."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events
from event_hooks.ledger.processes import store_plan
from event_hooks.ledger.records import NewEvent, event_key
from event_hooks.ledger.reports import list_run_reports
from event_hooks.process_event import deadlines
from tests.integration.ledger.test_ledger import plan_processes

pytestmark = [
    pytest.mark.parametrize("ledger_server", ["postgresql"], indirect=True),
    pytest.mark.usefixtures("queue"),
]

EVENT = NewEvent(event_key("new_assembly", "1"), "new_assembly", None, {"type": "new_assembly"}, "rest")


def build_context(age: timedelta = timedelta(0)) -> dict[str, Any]:
    """Return the context of a deadline that passed this long ago."""
    return {"dag_run": {"dag_run_id": "run"}, "deadline": {"deadline_time": datetime.now(UTC) - age}}


def list_report_messages(ledger: Ledger) -> list[str]:
    """Return the messages of the run's reports, without their details."""
    return [report.body["message"].partition(":")[0] for report in list_run_reports(ledger, "run")]


async def test_a_late_process_is_reported_once(ledger: Ledger) -> None:
    (event,) = accept_events(ledger, [EVENT], "run")
    store_plan(ledger, "run", plan_processes(event.id))
    for _ in range(2):
        await deadlines.report_late_process("dump", 3, build_context())
    assert list_report_messages(ledger) == ["Event late"]


async def test_a_deadline_before_the_plan_is_reported_after_the_plan(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine, the task ``route`` may run after the deadline."""
    polls, poll = [], deadlines._add_report_if_late

    def count_polls(*arguments: Any) -> bool:
        polls.append(poll(*arguments))
        return polls[-1]

    monkeypatch.setattr(deadlines, "_add_report_if_late", count_polls)
    monkeypatch.setattr(deadlines, "PLAN_POLL_SECONDS", 0.1)
    task = asyncio.create_task(deadlines.report_late_process("dump", 3, build_context()))
    async with asyncio.timeout(20):
        while len(polls) < 3:
            await asyncio.sleep(0.02)
    assert not task.done()
    (event,) = accept_events(ledger, [EVENT], "run")
    store_plan(ledger, "run", plan_processes(event.id))
    await asyncio.wait_for(task, 20)
    assert list_report_messages(ledger) == ["Event late"]


async def test_a_run_without_processes_has_no_deadline(ledger: Ledger) -> None:
    accept_events(ledger, [EVENT], "run")
    store_plan(ledger, "run", [])
    await asyncio.wait_for(deadlines.report_late_process("dump", 3, build_context()), 5)
    assert list_report_messages(ledger) == []


async def test_waiting_for_a_plan_times_out_even_after_a_restart_of_the_callback(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    context = build_context(deadlines.PLAN_TIMEOUT)
    await asyncio.wait_for(deadlines.report_late_process("dump", 3, context), 5)
    assert "Run run has no plan" in caplog.text
    assert list_report_messages(ledger) == []
