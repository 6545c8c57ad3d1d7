"""Sensors that start in the triggerer and end there, and the one that waits for jobs of a hive."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowSensorTimeout
from airflow.triggers.base import StartTriggerArgs

from event_hooks.exceptions import EventHooksError
from event_hooks.hive.hook import HiveHook
from event_hooks.hive.reader import read_final_outcomes
from event_hooks.hive.trigger import parse_ids, summarize_outcomes
from event_hooks.hive.wait_summary import WaitSummary

if TYPE_CHECKING:
    from airflow.sdk import Context


class DeferredSensor(BaseSensorOperator):
    """
    A sensor that starts from its trigger, which also ends the task. Waiting uses no worker slot.

    A worker runs only after the timeout: it calls :meth:`summarize_after_timeout`.

    :param trigger_cls: class path of the trigger.
    :param trigger_kwargs: its arguments; templates if ``template_fields`` names them.
    """

    start_from_trigger = True

    def __init__(self, *, trigger_cls: str, trigger_kwargs: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=trigger_cls,
            next_method="execute_complete",
            trigger_kwargs=trigger_kwargs,
            timeout=timedelta(seconds=self.timeout),
        )

    @abstractmethod
    def summarize_after_timeout(self, context: Context) -> WaitSummary:
        """Read the jobs once more after the timeout, and return the summary of the wait."""

    def execute(self, context: Context) -> NoReturn:
        """
        Fail, because the task must start from its trigger.

        :raises RuntimeError: always.
        """
        raise RuntimeError(
            f"{type(self).__name__} starts from its trigger and cannot run in a worker, as a mapped task"
            " would"
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """
        Push the summary to XCom after the timeout, and succeed only if all jobs are complete.

        :raises AirflowSensorTimeout: a job is not complete.
        """
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout:
            summary = self.summarize_after_timeout(context)
            context["ti"].xcom_push("return_value", summary.to_json())
            for error in summary.errors:
                self.log.error("timeout of %s exceeded: %s", timedelta(seconds=self.timeout), error)  # noqa: TRY400
            if summary.state != "success":
                raise
            self.log.info("All jobs are complete at the timeout")
            return None


class HiveJobSensor(DeferredSensor):
    """
    Wait until submitted jobs and their trees are finished.

    The XCom ``return_value`` is a ``WaitSummary``, also if the task fails. After the timeout, a worker reads
    the jobs once more, and logs the state of unfinished jobs and the reason.

    :param hive_conn_id: connection of the hive.
    :param job_ids: a template of the submit task's list. It needs ``map_indexes=-1``, otherwise the triggerer
        hangs (it has no decoder for ``GetXComSequenceSlice``, seen on Airflow 3.3.2).
    :param ready_timeout: seconds after which a READY job is stalled.
    """

    template_fields: Sequence[str] = ("job_ids",)

    def __init__(self, *, hive_conn_id: str, job_ids: str, ready_timeout: float, **kwargs: Any) -> None:
        super().__init__(
            trigger_cls="event_hooks.hive.trigger.HiveJobTrigger",
            trigger_kwargs={
                "hive_conn_id": hive_conn_id,
                "job_ids": job_ids,
                "ready_timeout": ready_timeout,
            },
            **kwargs,
        )
        self.hive_conn_id = hive_conn_id
        self.job_ids = job_ids
        self.ready_timeout = ready_timeout

    def summarize_after_timeout(self, context: Context) -> WaitSummary:
        """Read the jobs once more, and return the summary of the wait."""
        summary = WaitSummary.start(str(context["ti"].id))
        jobs = dict.fromkeys(parse_ids(self.job_ids))
        try:
            hook = HiveHook(self.hive_conn_id)
            outcomes = read_final_outcomes(hook, jobs, self.timeout, self.ready_timeout, has_results=False)
            return summarize_outcomes(summary, outcomes)
        except EventHooksError as error:
            return summary.finish((), [str(error)], is_success=False)
