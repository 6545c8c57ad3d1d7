"""Submit the jobs of a run's events and wait for them; note the jobs, and report what holds them up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from event_hooks import settings
from event_hooks.events import EventBatch
from event_hooks.exceptions import ReportNotPublished
from event_hooks.hive.operator import HiveSubmitOperator
from event_hooks.hive.sensor import HiveJobSensor
from event_hooks.hive.trigger import HiveJobTrigger, as_numbers
from event_hooks.ledger.ledger import Ledger
from event_hooks.reports.hook import RabbitMQHook
from event_hooks.reports.report import Report, event_report, told

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from event_hooks.hive.troubles import Trouble


class EventSubmitOperator(HiveSubmitOperator):
    """
    A ``HiveSubmitOperator`` that notes the jobs in the ledger.

    :param process: its name there.
    """

    def __init__(self, *, process: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.process = process

    def execute(self, context: Context) -> list[int]:
        """Submit and note: if the second fails, the retry finds the same jobs."""
        job_ids = super().execute(context)
        ledger = Ledger()
        ids = {entry.position: entry.id for entry in ledger.events_of(context["dag_run"].run_id)}
        jobs = {ids[position]: job_id for position, job_id in zip(self.positions, job_ids, strict=True)}
        ledger.record_jobs(self.process, self.hive_conn_id, self.analysis, jobs)
        ledger.close()
        return job_ids


class EventJobSensor(HiveJobSensor):
    """
    A ``HiveJobSensor`` whose jobs belong to events of the run.

    :param process: its name, in reports.
    :param positions: a template of the events that the jobs are for, counted from 0, in the jobs' order.
    """

    template_fields: Sequence[str] = (*HiveJobSensor.template_fields, "positions")
    trigger_cls: ClassVar[str] = "event_hooks.event_jobs.EventJobTrigger"

    def __init__(self, *, process: str, positions: str, **kwargs: Any) -> None:
        super().__init__(trigger_kwargs={"process": process, "positions": positions}, **kwargs)
        self.positions = positions


class EventJobTrigger(HiveJobTrigger):
    """
    A ``HiveJobTrigger`` that reports each trouble once, as WARN.

    :param process: as in :class:`EventJobSensor`.
    :param positions: a list, or the text of one.
    """

    def __init__(self, process: str, positions: Sequence[int] | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.process = process
        self.positions = positions

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give class path and arguments."""
        _, arguments = super().serialize()
        own = {"process": self.process, "positions": self.positions}
        return "event_hooks.event_jobs.EventJobTrigger", {**arguments, **own}

    async def warn(self, trouble: Trouble) -> bool:
        """Report it; if the broker does not take the report, it is tried again at the next search."""
        try:
            hook = RabbitMQHook(server=await RabbitMQHook.find_server())
            published = hook.publish([self._report(trouble)], settings.report_exchange())
            await asyncio.to_thread(list, published)
        except ReportNotPublished as error:
            self.log.warning("A report of this is owed: %s", error)
            return False
        return True

    def _report(self, trouble: Trouble) -> Report:
        """Report one trouble for all events that it holds up, under the first of them."""
        if self.task_instance is None:
            raise RuntimeError("a trigger without its task has no events")
        run = self.task_instance.get_template_context()["dag_run"]
        job_ids, positions = as_numbers(self.job_ids), as_numbers(self.positions)
        whose = dict(zip(job_ids, positions, strict=True))
        first, *others = (job_id for job_id in job_ids if job_id in trouble.held_up)
        facts = {
            "process": self.process,
            "run": run.run_id,
            "id": first,
            "status": trouble.kind,
            "error": str(trouble),
            "events": 1 + len(others),
        }
        event = EventBatch.from_conf(run.conf).events[whose[first]].payload()
        key = f"{run.run_id}/{self.process}/{trouble.key}"
        return event_report("WARN", told("Event held up", facts), event, key).model_copy(update={"key": key})
