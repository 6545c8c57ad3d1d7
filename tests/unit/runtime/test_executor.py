"""The executor releases the slots of tasks that a killed worker had received."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from airflow.models.taskinstancekey import TaskInstanceKey

from event_hooks.runtime.executor import RevokingLocalExecutor


def test_revoking_a_task_releases_its_slot() -> None:
    key = TaskInstanceKey("process_event", "report", "run")
    ti: Any = SimpleNamespace(key=key)
    executor = RevokingLocalExecutor(parallelism=2)
    executor.running.add(key)
    executor.revoke_task(ti=ti)
    assert executor.running == set()
    executor.revoke_task(ti=ti)
