"""
Requests from a task or a trigger to the supervisor of its process.

Airflow 3.3 has no public way to trigger a run with a note from inside a task, or to read the state of a task from a
trigger: ``TriggerDagRunOperator`` is an operator, and ``RuntimeTaskInstance.get_task_states`` exists in tasks only.
Replace this module when the Task SDK has functions for both.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time.comms import (
    ErrorResponse,
    GetTaskStates,
    TaskStatesResult,
    TriggerDagRun,
)


def trigger_run(dag_id: str, run_id: str, conf: dict[str, Any], note: str | None) -> None:
    """
    Trigger a run from inside a task; do nothing if a run with this id exists.

    :raises RuntimeError: Airflow rejects it, or is unavailable.
    """
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS  # exists only in a task

    answer = SUPERVISOR_COMMS.send(TriggerDagRun(dag_id=dag_id, run_id=run_id, conf=conf, note=note))
    if isinstance(answer, ErrorResponse) and answer.error != ErrorType.DAGRUN_ALREADY_EXISTS:
        raise RuntimeError(f"run {run_id} could not be started: {answer.error.value}, {answer.detail}")


async def load_task_state(dag_id: str, task_id: str, run_id: str) -> str | None:
    """Return the state of a task instance from inside a trigger; None if there is none."""
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS  # exists only in a triggerer

    request = GetTaskStates(dag_id=dag_id, task_ids=[task_id], run_ids=[run_id])
    answer = await SUPERVISOR_COMMS.asend(request)
    if not isinstance(answer, TaskStatesResult):
        return None
    state = answer.task_states.get(run_id, {}).get(task_id)
    return None if state is None else str(state)
