"""A triggerer for tests without Airflow: it runs triggers, and keeps the XComs and states of their tasks."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSuccessEvent

from event_hooks import xcom
from event_hooks.runtime import supervisor

LIMIT_SECONDS = 60
"""Seconds after which a test that hangs fails; a hive is idle for three times the duration of a poll."""

EndEvent = TaskSuccessEvent | TaskFailedEvent


class Triggerer:
    """Stand in for the supervisor of Airflow's triggerer, which answers requests about tasks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.xcoms: dict[tuple[str, str, str], Any] = {}
        """``{(run id, task id, key): value}``."""

        self.states: dict[tuple[str, str], str] = {}
        """``{(run id, task id): state}``."""

        self._ti_ids: dict[tuple[str, str], str] = {}
        for function in (self.load_xcom, self.store_xcom, self.load_task_state):
            monkeypatch.setattr(supervisor, function.__name__, function)

    async def load_xcom(self, key: str, *, dag_id: str, task_id: str, run_id: str) -> Any:
        return self.xcoms.get((run_id, task_id, key))

    async def store_xcom(self, key: str, value: Any, *, dag_id: str, task_id: str, run_id: str) -> None:
        self.xcoms[run_id, task_id, key] = value

    async def load_task_state(self, dag_id: str, task_id: str, run_id: str) -> str | None:
        return self.states.get((run_id, task_id))

    def assign(self, trigger: BaseTrigger, run_id: str, task_id: str, ti_id: str) -> None:
        """Make a trigger that of a task instance."""
        task_instance: Any = SimpleNamespace(id=ti_id, run_id=run_id, task_id=task_id, dag_id="process_event")
        trigger.task_instance = task_instance
        if self._ti_ids.setdefault((run_id, task_id), ti_id) != ti_id:  # the task was cleared
            self._ti_ids[run_id, task_id], self.states[run_id, task_id] = ti_id, "deferred"

    async def run(self, trigger: BaseTrigger) -> EndEvent:
        """Run a trigger to its end, and store its XComs as Airflow does."""
        async with asyncio.timeout(LIMIT_SECONDS):
            (event,) = [event async for event in trigger.run()]
        assert isinstance(event, EndEvent)
        task = trigger.task_instance
        if task:
            for key, value in (event.xcoms or {}).items():
                self.xcoms[task.run_id, task.task_id, key] = value
            self.states[task.run_id, task.task_id] = (
                "success" if isinstance(event, TaskSuccessEvent) else "failed"
            )
        return event

    def read_summary(self, run_id: str, task_id: str) -> dict[str, Any]:
        """Return the summary of a wait."""
        summary: dict[str, Any] = xcom.decode_xcom(self.xcoms[run_id, task_id, "return_value"])
        return summary
