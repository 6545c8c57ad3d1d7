"""Wait for jobs of a hive, inside the triggerer."""

from __future__ import annotations

import ast
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSuccessEvent, TriggerEvent

from event_hooks.exceptions import EventHooksError
from event_hooks.hive.poller import poller_of
from event_hooks.hive.trees import JobOutcome, State


class HiveJobTrigger(BaseTrigger):
    """
    Wait until jobs are over, and end the task: as a success only if all are complete.

    May run twice at once: it only reads. The task's XCom is the text of ``{"outcomes": …, "error": …}``: a
    list of ``{"job_id", "state", "result", "error"}`` or null, and why it gave up or null. It is text, and
    ASCII, because Airflow 3.3.2 sends events as msgpack: an integer above 64 bits or a lone surrogate in a
    job's result would end the triggerer, again after each restart.

    :param job_ids: a list, or the text of one, which is what a rendered template gives.
    """

    def __init__(self, hive_conn_id: str, job_ids: Sequence[int] | str, poll_interval: float) -> None:
        super().__init__()
        self.hive_conn_id = hive_conn_id
        self.job_ids = job_ids
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give class path and arguments; Airflow rebuilds the trigger from them elsewhere."""
        names = ("hive_conn_id", "job_ids", "poll_interval")
        return "event_hooks.hive.trigger.HiveJobTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event, when all jobs are over."""
        job_ids = self._job_ids()
        self.log.info(
            "Waiting for %s jobs of %s, the first is %s", len(job_ids), self.hive_conn_id, job_ids[:1]
        )
        await self._forget_an_earlier_wait()
        try:
            outcomes = await poller_of(self.hive_conn_id).until_over(job_ids, self.poll_interval)
        except EventHooksError as error:
            self.log.error("Gave up waiting: %s", error)  # noqa: TRY400 (the message says it all)
            yield TaskFailedEvent(xcoms={"return_value": _xcom(None, str(error))})
            return
        for outcome in outcomes:
            self._tell(outcome)
        xcoms: dict[str, Any] = {"return_value": _xcom(outcomes, None)}
        is_success = all(outcome.state is State.COMPLETE for outcome in outcomes)
        yield TaskSuccessEvent(xcoms=xcoms) if is_success else TaskFailedEvent(xcoms=xcoms)

    async def _forget_an_earlier_wait(self) -> None:
        """Airflow keeps the XCom when such a task is cleared: it must not pass for ours."""
        if ti := self.task_instance:
            place = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id}
            await XCom.aset("return_value", _xcom(None, None), **place)

    def _job_ids(self) -> list[int]:
        listed = ast.literal_eval(self.job_ids) if isinstance(self.job_ids, str) else self.job_ids
        if not isinstance(listed, list | tuple) or not all(type(job_id) is int for job_id in listed):
            raise ValueError(f"job_ids: expected a list of job ids, not {self.job_ids!r}")
        return list(listed)

    def _tell(self, outcome: JobOutcome) -> None:
        if outcome.state is State.COMPLETE:
            self.log.info("Job %s is complete", outcome.job_id)
        else:
            self.log.error("Job %s is %s: %s", outcome.job_id, outcome.state, outcome.error)


def _xcom(outcomes: Sequence[JobOutcome] | None, error: str | None) -> str:
    listed = None if outcomes is None else [outcome.as_dict() for outcome in outcomes]
    return json.dumps({"outcomes": listed, "error": error})
