"""The executor for one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.executors.local_executor import LocalExecutor

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance


class RevokingLocalExecutor(LocalExecutor):
    """
    Airflow's LocalExecutor, which also gives back what a killed worker had taken.

    A worker that dies between taking a task and starting it leaves the task queued, and the task's slot in
    use. After ``[scheduler] task_queued_timeout`` Airflow asks the executor to revoke such a task, and queues
    it again. That of Airflow 3.3.2 cannot, so that the run would never end (seen in tests/faults).
    """

    def revoke_task(self, *, ti: TaskInstance) -> None:
        """Forget the task; harmless when a worker has it after all: Airflow lets only one of them begin."""
        self.queued_tasks.pop(ti.key, None)
        self.running.discard(ti.key)
