"""Runs of `process_event` on a real ledger and real hives, without Airflow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from event_hooks.events.lookups import Lookups, Process
from event_hooks.events.rules import EventRules
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_requests, load_run_events
from event_hooks.ledger.processes import load_run_statuses
from event_hooks.ledger.records import EventRequest, NewEvent, ProcessStatus, event_key
from event_hooks.ledger.reports import list_run_reports
from event_hooks.process_event import runs
from event_hooks.process_event.submit import EventSubmitOperator
from event_hooks.process_event.wait import EventJobTrigger
from tests.integration.hives import MakeHive, PracticeHive
from tests.support.task_instances import RunOfTasks
from tests.support.triggerer import LIMIT_SECONDS, EndEvent, Triggerer

RUN_ID = "a_run"
ANALYSIS = "event_dump_dna"
TASKS = ("route", "dump.submit", "dump.wait", "report")

Place = tuple[str, str, str]
"""(process, hive, analysis)."""


@pytest.fixture
def hive(make_hive: MakeHive, monkeypatch: pytest.MonkeyPatch) -> PracticeHive:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__POLL_INTERVAL", "0.05")
    return make_hive("mysql")


@pytest.fixture
def triggerer(monkeypatch: pytest.MonkeyPatch) -> Triggerer:
    return Triggerer(monkeypatch)


def build_lookups(types: dict[str, Sequence[str]], places: Sequence[Place]) -> Lookups:
    """Return lookups with these processes of each event type."""
    processes = {
        name: Process(name=name, hive_conn_id=hive, analysis=analysis) for name, hive, analysis in places
    }
    rules = EventRules(
        process_names={name: tuple(names) for name, names in types.items()}, joins={}, once_per={}
    )
    return Lookups(rules=rules, processes=processes)


def accept(ledger: Ledger, events: Sequence[tuple[dict[str, Any], Sequence[Place]]]) -> RunOfTasks:
    """Accept events with their plans, as the API server does, and return their run."""
    for position, (payload, places) in enumerate(events):
        event = {"event_id": f"{RUN_ID}-{position}", "genome": f"genome_{position}", **payload}
        key = event_key(event["type"], event["event_id"])
        new_event = NewEvent(key, event["type"], event["genome"], event, "api")
        accept_requests(ledger, [EventRequest([new_event], [list(places)])], RUN_ID, position)
    conf = {runs.REFERENCE_KEY: {"events": len(events), "first_event_id": 1}}
    return RunOfTasks(RUN_ID, conf, dict.fromkeys(TASKS))


def submit(run: RunOfTasks, process: str = "dump") -> None:
    """Run the task `submit` of a process."""
    operator = EventSubmitOperator(task_id=f"{process}.submit", process=process)
    operator.execute(run.build_context(f"{process}.submit"))


def build_trigger(
    triggerer: Triggerer, ti_id: str = "try1", process: str = "dump", **kwargs: Any
) -> EventJobTrigger:
    """Return the trigger of the task `wait` of a process."""
    trigger = EventJobTrigger(process, 3600, **kwargs)
    triggerer.assign(trigger, RUN_ID, f"{process}.wait", ti_id)
    return trigger


async def wait(triggerer: Triggerer, ti_id: str = "try1", **kwargs: Any) -> EndEvent:
    """Run the trigger of the task `wait` to its end."""
    return await triggerer.run(build_trigger(triggerer, ti_id, **kwargs))


def load_states(ledger: Ledger) -> dict[tuple[int, str], str]:
    """Return ``{(position, process): state}``."""
    return {(status.position, status.process): status.state for status in load_run_statuses(ledger, RUN_ID)}


def load_only_status(ledger: Ledger) -> ProcessStatus:
    """Return the status of the only process of the only event."""
    (status,) = load_run_statuses(ledger, RUN_ID)
    return status


def list_reports(ledger: Ledger) -> list[tuple[str, str]]:
    """Return (routing key, step) of each report of the run, in order."""
    return [
        (report.routing_key, report.body["params"]["event_hooks"]["step"])
        for report in list_run_reports(ledger, RUN_ID)
    ]


def list_rejected(ledger: Ledger) -> dict[int, str | None]:
    """Return the reason of each rejected event, by position."""
    return {
        event.position: event.rejected_reason
        for event in load_run_events(ledger, RUN_ID)
        if event.rejected_reason
    }


async def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)
