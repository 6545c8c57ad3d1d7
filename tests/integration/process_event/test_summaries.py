"""The last summary of an event has the present outcomes, whichever tasks of the run are cleared."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from event_hooks.exceptions import RunFailed
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.reports import list_run_reports
from event_hooks.process_event.report import ReportOperator
from tests.integration.hives import PracticeHive
from tests.integration.process_event.conftest import (
    ANALYSIS,
    RUN_ID,
    accept,
    submit,
    wait,
    wait_until,
)
from tests.support.task_instances import RunOfTasks
from tests.support.triggerer import Triggerer

pytestmark = pytest.mark.usefixtures("queue")

FAIL_ONCE: dict[str, Any] = {"type": "new_assembly", "practice": {"fail_until_reset": "entry"}}


def start(ledger: Ledger, hive: PracticeHive, processes: Sequence[str] = ("dump",)) -> RunOfTasks:
    """Submit the jobs of an event, which fail once."""
    run = accept(ledger, [(FAIL_ONCE, [(name, hive.conn_id, ANALYSIS) for name in processes])])
    for name in processes:
        submit(run, name)
        run.states |= {f"{name}.submit": "success", f"{name}.wait": "failed"}
    run.states |= {"route": "success"}
    return run


async def report(run: RunOfTasks) -> None:
    """Run the task `report`."""
    operator = ReportOperator(task_id="report", emits={})
    with suppress(RunFailed):
        await asyncio.to_thread(operator.execute, run.build_context("report"))


async def clear(hive: PracticeHive, triggerer: Triggerer, attempt: str, process: str = "dump") -> None:
    """Clear a wait without Downstream, and do its jobs."""
    waiting = asyncio.create_task(wait(triggerer, attempt, process=process))
    await wait_until(lambda: ("READY",) in hive.fetch_rows("SELECT status FROM job"))
    await asyncio.to_thread(hive.run_jobs)
    await waiting


def list_summaries(ledger: Ledger) -> list[dict[str, str]]:
    """Return the states of the processes in each summary, in order."""
    messages = [report.body["message"] for report in list_run_reports(ledger, RUN_ID)]
    summaries = [text.partition(": ")[2] for text in messages if text.startswith("Event finished: ")]
    return [json.loads(summary)["processes"] for summary in summaries]


async def test_a_success_after_a_failure_has_one_summary(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    run = start(ledger, hive)
    await asyncio.to_thread(hive.run_jobs)
    await wait(triggerer)
    assert list_summaries(ledger) == []
    for _ in range(2):
        await report(run)
    assert list_summaries(ledger) == [{"dump": "failed"}]
    await clear(hive, triggerer, "try2")
    assert list_summaries(ledger) == [{"dump": "failed"}, {"dump": "complete"}]
    run.states["dump.wait"] = "success"
    await report(run)
    await wait(triggerer, "try3")
    assert list_summaries(ledger) == [{"dump": "failed"}, {"dump": "complete"}]


async def test_a_second_success_after_a_second_failure_has_a_summary(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    """It has the same states as the first success."""
    run = start(ledger, hive)
    await asyncio.to_thread(hive.run_jobs)
    await wait(triggerer)
    await report(run)
    await clear(hive, triggerer, "try2")
    hive.execute("DELETE FROM result")
    hive.execute("UPDATE job SET status = 'FAILED' WHERE prev_job_id IS NOT NULL ORDER BY job_id LIMIT 1")
    await clear(hive, triggerer, "try3")
    assert [states["dump"] for states in list_summaries(ledger)] == ["failed", "complete", "complete"]


async def test_two_waits_that_are_cleared_one_after_the_other_have_one_summary_each(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    run = start(ledger, hive, ("dump", "dump_2"))
    await asyncio.to_thread(hive.run_jobs)
    for name in ("dump", "dump_2"):
        await wait(triggerer, process=name)
    await report(run)
    for name in ("dump", "dump_2"):
        await clear(hive, triggerer, "try2", name)
    assert [list(states.values()) for states in list_summaries(ledger)] == [
        ["failed", "failed"],
        ["complete", "failed"],
        ["complete", "complete"],
    ]
