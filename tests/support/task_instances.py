"""Contexts of tasks for tests without Airflow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class RunOfTasks:
    """
    Stand in for a run of `process_event`: its tasks with their states and XComs.

    :param states: ``{task id: Airflow's state}``; the tasks that the scheduler has created for the run.
    :param dag_tasks: ids of the tasks in the DAG file; default: those of ``states``.
    """

    def __init__(
        self,
        run_id: str,
        conf: dict[str, Any],
        states: dict[str, str | None],
        dag_tasks: set[str] | None = None,
    ) -> None:
        self.run_id = run_id
        self.conf = conf
        self.states = states
        self.dag_tasks = set(states) if dag_tasks is None else dag_tasks
        self.xcoms: dict[tuple[str, str], Any] = {}

    def build_context(self, task_id: str, ti_id: str = "try1") -> Any:
        """Return the context of a task."""
        return {
            "ti": _TaskInstance(self, task_id, ti_id),
            "dag_run": SimpleNamespace(
                run_id=self.run_id, conf=self.conf, run_type=SimpleNamespace(value="manual")
            ),
            "dag": SimpleNamespace(has_task=self.dag_tasks.__contains__),
        }


class _TaskInstance:
    dag_id = "process_event"

    def __init__(self, run: RunOfTasks, task_id: str, ti_id: str) -> None:
        self.run = run
        self.task_id = task_id
        self.id = ti_id

    def xcom_push(self, key: str, value: Any) -> None:
        self.run.xcoms[self.task_id, key] = value

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.run.xcoms.get((task_ids, key))

    def get_task_states(
        self, dag_id: str, run_ids: list[str], task_ids: list[str] | None = None
    ) -> dict[str, dict[str, str | None]]:
        assert dag_id == self.dag_id
        if self.run.run_id not in run_ids or not self.run.states:
            return {}
        states = self.run.states
        return {self.run.run_id: {name: states[name] for name in task_ids or states if name in states}}
