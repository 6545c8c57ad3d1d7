"""
Requests from a task or a trigger to the supervisor of its process.

Airflow 3.3 has no public way to trigger a run with a note from inside a task, to read the state of a task
instance from a trigger, or to read and write XComs from a trigger without blocking its event loop.
``TriggerDagRunOperator`` is an operator, ``RuntimeTaskInstance.get_task_states`` exists in tasks only,
and the methods of ``airflow.sdk.BaseXCom`` need the class of the configured XCom backend. Replace this
module when the Task SDK has functions for these requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import (
    ErrorResponse,
    GetTaskStates,
    TaskStatesResult,
    TriggerDagRun,
)
from airflow.sdk.execution_time.xcom import XCom

ON_KILL_SECONDS = 25.0
"""Less than ``[triggerer] on_kill_timeout``, 30 s, after which Airflow waits for the end of the coroutine."""


def trigger_run(dag_id: str, run_id: str, conf: dict[str, Any], note: str | None) -> None:
    """
    Trigger a run from inside a task; do nothing if a run with this id exists.

    :raises RuntimeError: Airflow rejects it, or is unavailable.
    """
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS  # exists only in a task

    try:
        answer = SUPERVISOR_COMMS.send(TriggerDagRun(dag_id=dag_id, run_id=run_id, conf=conf, note=note))
    except AirflowRuntimeError as error:
        answer = error.error
    if isinstance(answer, ErrorResponse) and answer.error != ErrorType.DAGRUN_ALREADY_EXISTS:
        raise RuntimeError(f"run {run_id} could not be started: {answer.error.value}, {answer.detail}")


async def load_task_state(dag_id: str, task_id: str, run_id: str) -> str | None:
    """Return the state of a task instance from inside a trigger; ``None`` if it does not exist."""
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS  # exists only in a triggerer

    request = GetTaskStates(dag_id=dag_id, task_ids=[task_id], run_ids=[run_id])
    answer = await SUPERVISOR_COMMS.asend(request)
    if not isinstance(answer, TaskStatesResult):
        return None
    state = answer.task_states.get(run_id, {}).get(task_id)
    return None if state is None else str(state)


async def load_xcom(key: str, *, dag_id: str, task_id: str, run_id: str) -> Any:
    """Return an XCom of a task instance from inside a trigger; ``None`` if it does not exist."""
    return await XCom.aget_one(key=key, dag_id=dag_id, task_id=task_id, run_id=run_id)


async def store_xcom(key: str, value: Any, *, dag_id: str, task_id: str, run_id: str) -> None:
    """Store an XCom of a task instance from inside a trigger; replace its value if it exists."""
    await XCom.aset(key, value, dag_id=dag_id, task_id=task_id, run_id=run_id)


def task_ids(task_instance: Any) -> dict[str, str] | None:
    """Return the ids of a trigger's task, as the functions above take them; ``None`` without a task."""
    if task_instance is None:
        return None
    return {name: getattr(task_instance, name) for name in ("dag_id", "task_id", "run_id")}


async def run_to_end(coroutine: Coroutine[Any, Any, None]) -> None:
    """
    Run a coroutine as a task of its own, which no cancellation of the caller cancels, and wait for it.

    For ``BaseTrigger.on_kill``: Airflow 3.3.2 cancels it again about every second, because the supervisor
    sends the trigger's id with every sync until the trigger has ended, and swallows the error. After
    ``ON_KILL_SECONDS`` the caller returns, and the task goes on without it.
    """
    task = asyncio.create_task(coroutine)
    _TASKS.add(task)
    task.add_done_callback(_TASKS.discard)
    deadline = time.monotonic() + ON_KILL_SECONDS
    while not task.done() and time.monotonic() < deadline:
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=deadline - time.monotonic())


_TASKS: set[asyncio.Task[None]] = set()
"""References to the running tasks: the event loop itself has only weak ones."""
