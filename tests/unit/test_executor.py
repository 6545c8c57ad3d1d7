"""The executor gives back what a killed worker had taken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from airflow.models.taskinstancekey import TaskInstanceKey

from event_hooks.runtime.executor import RevokingLocalExecutor


def test_a_task_that_is_revoked_leaves_its_slot() -> None:
    key = TaskInstanceKey("process_event", "report", "run")
    ti: Any = SimpleNamespace(key=key)
    executor = RevokingLocalExecutor(parallelism=2)
    executor.running.add(key)
    executor.revoke_task(ti=ti)
    assert executor.running == set()
    executor.revoke_task(ti=ti)
