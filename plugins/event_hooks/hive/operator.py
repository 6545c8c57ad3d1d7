"""Operator that submits jobs to a hive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from event_hooks import xcom
from event_hooks.hive import perl
from event_hooks.hive.hook import HiveHook

if TYPE_CHECKING:
    from airflow.sdk import Context


class HiveSubmitOperator(BaseOperator):
    """
    Submit one job per input to an analysis of a hive; ``HiveJobSensor`` waits for the jobs.

    A retry is idempotent: equal inputs have one job. Put a token of run and task into the inputs if two runs
    must not share a job.

    :param hive_conn_id: connection of the hive.
    :param analysis: ``analysis_base.logic_name``.
    :param inputs: a list of hashes, all different, or the XCom of one.
    :return: ``job.job_id`` of each input, in the order of the inputs. If the task fails, the XCom ``error``
        has the message.
    """

    template_fields: Sequence[str] = ("inputs",)

    def __init__(
        self, *, hive_conn_id: str, analysis: str, inputs: Sequence[Mapping[str, Any]] | Any, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.hive_conn_id = hive_conn_id
        self.analysis = analysis
        self.inputs = inputs

    def execute(self, context: Context) -> list[int]:
        """
        Submit the jobs and return their ids.

        :raises UnsafeValue: eHive would evaluate a value; nothing is submitted.
        :raises HiveRejected: a retry helps after a failover or a fix, and cannot help after
            :class:`HiveTooOld`; nothing is submitted.
        :raises HiveUnreachable: a retry may help.
        """
        with xcom.push_error_xcom(context["ti"]):
            return self.submit(self.inputs)

    def submit(self, inputs: Sequence[Mapping[str, Any]]) -> list[int]:
        """Submit one job per input and return their ids; raises as :meth:`execute`."""
        texts = [perl.dumps(fields) for fields in inputs]
        return HiveHook(self.hive_conn_id).submit(self.analysis, texts)
