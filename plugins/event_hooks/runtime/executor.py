"""
The executor for one machine.

``LocalExecutor`` is public, its attributes ``queued_tasks`` and ``running`` are not. Replace this module
when the LocalExecutor of Airflow implements ``revoke_task``, which it does not in 3.3.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.executors.local_executor import LocalExecutor

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance


class RevokingLocalExecutor(LocalExecutor):
    """
    Airflow's LocalExecutor, which also releases the slots of tasks that a killed worker had received.

    A worker that dies between receiving a task and starting it leaves the task queued, and its slot in use.
    After ``[scheduler] task_queued_timeout`` Airflow asks the executor to revoke such a task, and queues it
    again. The LocalExecutor of Airflow 3.3.2 does not implement this, so the run would never finish (seen in
    tests/faults).
    """

    def revoke_task(self, *, ti: TaskInstance) -> None:
        """Release the slot of a task; safe if a worker has it, because Airflow starts a task only once."""
        self.queued_tasks.pop(ti.key, None)
        self.running.discard(ti.key)
