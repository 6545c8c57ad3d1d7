"""Wait for jobs of a hive."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator
from airflow.triggers.base import StartTriggerArgs

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context


class HiveJobSensor(BaseSensorOperator):
    """
    Wait until jobs, and all that grew from them, are over; takes no worker.

    It starts in the triggerer and ends there. ``HiveJobTrigger`` says what its XCom is, also when it fails.

    :param hive_conn_id: connection of the hive.
    :param job_ids: a template of the submit task's list. With ``map_indexes=-1``: without it the triggerer
        hangs (``GetXComSequenceSlice`` has no decoder there, seen on Airflow 3.3.2).
    :param poll_interval: seconds between two looks at the hive.
    """

    template_fields: Sequence[str] = ("job_ids",)
    start_from_trigger = True

    def __init__(self, *, hive_conn_id: str, job_ids: str, poll_interval: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_ids = job_ids
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls="event_hooks.hive.trigger.HiveJobTrigger",
            next_method="execute_complete",
            trigger_kwargs={"hive_conn_id": hive_conn_id, "job_ids": job_ids, "poll_interval": poll_interval},
            timeout=timedelta(seconds=self.timeout),
        )

    def execute(self, context: Context) -> NoReturn:
        """Refuse: a worker has nothing to do here."""
        raise RuntimeError("a HiveJobSensor starts from its trigger; is it mapped? Airflow cannot do that")
