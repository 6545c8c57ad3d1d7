"""The task `submit`: submit the jobs of a process, and record them in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from event_hooks import xcom
from event_hooks.events.models import EventBatch
from event_hooks.exceptions import JobInOtherHive
from event_hooks.hive import perl
from event_hooks.hive.hook import HiveHook
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.processes import load_run_statuses, store_jobs
from event_hooks.process_event.links import LINKS
from event_hooks.process_event.recording import load_event_ids
from event_hooks.reports.builder import ReportBuilder
from event_hooks.reports.outbox import to_pending

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from event_hooks.ledger.records import ProcessStatus


class EventSubmitOperator(BaseOperator):
    """
    Submit one job per event to the hive of a process; record the jobs, and report them.

    A retry is idempotent: each input carries a token of run, event and task, and an input has one job.

    :param process: its name in the ledger.
    :param hive_conn_id: connection of the hive.
    :param analysis: ``analysis_base.logic_name``.
    :param positions: positions of the run's events, from 0, or the XCom of them.
    :param guihive: address of the hive's pages in guiHIVE, if there are any.
    :return: ``job.job_id`` of each event, in the order of ``positions``. If the task fails, the XCom ``error`` has
        the message.
    """

    template_fields: Sequence[str] = ("positions",)
    operator_extra_links = LINKS

    def __init__(
        self,
        *,
        process: str,
        hive_conn_id: str,
        analysis: str,
        positions: Any,
        guihive: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.process = process
        self.hive_conn_id = hive_conn_id
        self.analysis = analysis
        self.positions = positions
        self.guihive = guihive

    def execute(self, context: Context) -> list[int]:
        """
        Submit the jobs; then record and report them.

        If recording fails, the retry finds the same jobs.

        :raises JobInOtherHive: the API server, which reads a changed lookup first, submitted the job to another hive.
        """
        run = context["dag_run"]
        story, ledger = ReportBuilder(run.conf, run.run_id), Ledger()
        with xcom.push_error_xcom(context["ti"]):
            self._check_recorded_jobs(load_run_statuses(ledger, run.run_id))
            job_ids = HiveHook(self.hive_conn_id).submit(self.analysis, self._build_inputs(run))
        ids = load_event_ids(ledger, run.run_id)
        jobs = dict(zip(self.positions, job_ids, strict=True))
        reports = [story.submitted(position, self.process, job_id) for position, job_id in jobs.items()]
        recorded = {(ids[position], self.process): job_id for position, job_id in jobs.items()}
        store_jobs(ledger, recorded, to_pending(reports, run.run_id, ids))
        ledger.close()
        return job_ids

    def _check_recorded_jobs(self, statuses: Sequence[ProcessStatus]) -> None:
        for status in statuses:
            is_same_place = (status.hive, status.analysis) == (self.hive_conn_id, self.analysis)
            if status.process == self.process and status.job_id is not None and not is_same_place:
                raise JobInOtherHive(self.process, status.job_id, status.hive, status.analysis)

    def _build_inputs(self, run: Any) -> list[str]:
        batch = EventBatch.from_conf(run.conf)
        return [
            perl.dumps(batch.build_job_input(position, run.run_id, self.task_id))
            for position in self.positions
        ]
