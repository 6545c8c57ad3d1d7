"""Put an event's jobs into a hive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from event_hooks import reason
from event_hooks.events import EventBatch
from event_hooks.hive import perl
from event_hooks.hive.hook import HiveHook

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context


class HiveSubmitOperator(BaseOperator):
    """
    Put one job per event into a hive and end; ``HiveJobSensor`` does the waiting.

    A retry is harmless: each input carries a token of run, event and task, and an input has one job.

    :param hive_conn_id: connection of the hive.
    :param analysis: ``analysis_base.logic_name``.
    :param positions: which of the run's events, counted from 0; a list, or what gives one.
    :return: ``job.job_id`` of each of these events, in the order of ``positions``. If it fails, the reason
        is the XCom ``error``.
    """

    template_fields: Sequence[str] = ("positions",)

    def __init__(self, *, hive_conn_id: str, analysis: str, positions: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hive_conn_id = hive_conn_id
        self.analysis = analysis
        self.positions = positions

    def execute(self, context: Context) -> list[int]:
        """Submit, and give the job ids."""
        with reason.left_behind(context["ti"]):
            job_ids = HiveHook(self.hive_conn_id).submit(self.analysis, self._inputs(context))
        self.log.info("Jobs of %s in %s: %s", self.analysis, self.hive_conn_id, _shortened(job_ids))
        return job_ids

    def _inputs(self, context: Context) -> list[str]:
        run = context["dag_run"]
        batch = EventBatch.from_conf(run.conf)
        return [perl.dumps(batch.job_input(at, run.run_id, self.task_id)) for at in self.positions]


def _shortened(job_ids: Sequence[int]) -> str:
    shown = ", ".join(map(str, job_ids[:10]))
    return shown if len(job_ids) <= 10 else f"{shown} and {len(job_ids) - 10} more"
