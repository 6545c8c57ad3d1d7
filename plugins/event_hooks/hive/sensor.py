"""Sensor that waits for jobs of a hive."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowSensorTimeout
from airflow.triggers.base import StartTriggerArgs

from event_hooks.exceptions import EventHooksError
from event_hooks.hive.connection import resolve_hive
from event_hooks.hive.reader import HiveReader
from event_hooks.hive.trigger import parse_ids
from event_hooks.hive.wait_state import WaitState

if TYPE_CHECKING:
    from airflow.sdk import Context


class HiveJobSensor(BaseSensorOperator):
    """
    Wait until submitted jobs and their trees are finished, deferred, without a worker slot.

    The task starts in the triggerer and ends there. Its XCom ``return_value`` is a ``WaitState``, also if it
    fails. A worker runs only after the timeout: it reads the jobs once more, and logs the state of unfinished
    jobs and the reason.

    :param hive_conn_id: connection of the hive.
    :param job_ids: a template of the submit task's list. It needs ``map_indexes=-1``, otherwise the triggerer
        hangs (it has no decoder for ``GetXComSequenceSlice``, seen on Airflow 3.3.2).
    :param ready_timeout: seconds after which a READY job is stalled.
    :param trigger_kwargs: more arguments of the trigger class; templates if ``template_fields`` names them.
    """

    template_fields: Sequence[str] = ("job_ids",)
    start_from_trigger = True
    trigger_cls: ClassVar[str] = "event_hooks.hive.trigger.HiveJobTrigger"

    def __init__(
        self,
        *,
        hive_conn_id: str,
        job_ids: str,
        ready_timeout: float,
        trigger_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hive_conn_id = hive_conn_id
        self.job_ids = job_ids
        self.ready_timeout = ready_timeout
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=self.trigger_cls,
            next_method="execute_complete",
            trigger_kwargs={
                "hive_conn_id": hive_conn_id,
                "job_ids": job_ids,
                "ready_timeout": ready_timeout,
                **(trigger_kwargs or {}),
            },
            timeout=timedelta(seconds=self.timeout),
        )

    def execute(self, context: Context) -> NoReturn:
        """
        Fail, because the task must start from its trigger.

        :raises RuntimeError: always.
        """
        raise RuntimeError(
            "HiveJobSensor starts from its trigger and cannot run in a worker, as a mapped task would"
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """
        Push the state of the jobs to XCom after the timeout, and succeed only if all jobs are complete.

        :raises AirflowSensorTimeout: a job is not complete.
        """
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout:
            state = self._read_final_state()
            state.task_instance_id = str(context["ti"].id)
            context["ti"].xcom_push("return_value", state.to_json())
            if not state.is_success:
                raise
            self.log.info("All jobs are complete at the timeout")
            return None

    def _read_final_state(self) -> WaitState:
        timeout = f"timeout of {timedelta(seconds=self.timeout)} exceeded"
        try:
            reader = HiveReader(self.hive_conn_id, resolve_hive(self.hive_conn_id))
            outcomes = reader.read_final_outcomes(parse_ids(self.job_ids), self.ready_timeout)
            reader.close()
        except EventHooksError as error:
            self.log.error("%s, and %s", timeout, error)  # noqa: TRY400 (the message names the cause)
            return WaitState(error=f"{timeout}, and {error}")
        for outcome in outcomes:
            if outcome.error:
                self.log.error("%s: job %s is %s: %s", timeout, outcome.job_id, outcome.state, outcome.error)
        return WaitState(outcomes=outcomes)
