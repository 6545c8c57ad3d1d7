"""Wait for jobs of a hive."""

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
    from airflow.sdk.definitions.context import Context


class HiveJobSensor(BaseSensorOperator):
    """
    Wait until jobs, and all that grew from them, are over; takes no worker.

    It starts in the triggerer and ends there; ``WaitState`` says what its XCom is, also when it fails.
    Only at its time limit a worker looks once more, and tells what was not over, and why.

    :param hive_conn_id: connection of the hive.
    :param job_ids: a template of the submit task's list. With ``map_indexes=-1``: without it the triggerer
        hangs (``GetXComSequenceSlice`` has no decoder there, seen on Airflow 3.3.2).
    :param ready_timeout: seconds that a job may be READY before people are told.
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
        """Refuse: a worker has nothing to do here."""
        raise RuntimeError("a HiveJobSensor starts from its trigger; is it mapped? Airflow cannot do that")

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Fail, which is all a worker is called for; at the time limit, tell how far the jobs are."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout:
            waiting = self._at_the_limit()
            waiting.ti = str(context["ti"].id)
            context["ti"].xcom_push("return_value", waiting.dumps())
            if not waiting.is_success:
                raise
            self.log.info("All jobs are complete, at the last moment")
            return None

    def _at_the_limit(self) -> WaitState:
        limit = f"the time limit of {timedelta(seconds=self.timeout)} is over"
        try:
            visitor = HiveReader(self.hive_conn_id, resolve_hive(self.hive_conn_id))
            outcomes = visitor.verdicts(parse_ids(self.job_ids), self.ready_timeout)
            visitor.close()
        except EventHooksError as error:
            self.log.error("%s, and %s", limit, error)  # noqa: TRY400 (the message says it all)
            return WaitState(error=f"{limit}, and {error}")
        for outcome in outcomes:
            if outcome.error:
                self.log.error("%s: job %s is %s: %s", limit, outcome.job_id, outcome.state, outcome.error)
        return WaitState(outcomes=outcomes)
