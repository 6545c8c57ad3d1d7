"""The task `submit`: submit the jobs of a process, and record them in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from event_hooks import xcom
from event_hooks.events.models import EventBatch
from event_hooks.exceptions import JobInOtherHive
from event_hooks.hive.operator import HiveSubmitOperator
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.processes import load_run_statuses, store_jobs
from event_hooks.process_event.links import LINKS
from event_hooks.process_event.recording import load_event_ids
from event_hooks.reports.builder import ReportBuilder
from event_hooks.reports.outbox import to_pending

if TYPE_CHECKING:
    from airflow.sdk import Context

    from event_hooks.ledger.records import ProcessStatus


class EventSubmitOperator(HiveSubmitOperator):
    """
    A ``HiveSubmitOperator`` that submits one job per event, records the jobs, and reports them.

    A retry is idempotent: each input carries a token of run, event and task, and an input has one job.

    :param process: its name in the ledger.
    :param positions: positions of the run's events, from 0, or an ``XComArg`` of them.
    :param guihive: URL of the hive in guiHIVE, if it is there.
    :return: ``job.job_id`` of each event, in the order of ``positions``. If the task fails, the XCom
        ``error`` has the message.
    """

    template_fields: Sequence[str] = ("positions",)
    operator_extra_links = LINKS

    def __init__(
        self,
        *,
        process: str,
        positions: Any,
        guihive: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(inputs=(), **kwargs)
        self.process = process
        self.positions = positions
        self.guihive = guihive

    def execute(self, context: Context) -> list[int]:
        """
        Submit the jobs; then record and report them.

        If recording fails, the retry finds the same jobs.

        :raises JobInOtherHive: the API server, which reads a changed lookup first, submitted the job to
            another hive.
        """
        run = context["dag_run"]
        builder, ledger = ReportBuilder(run.conf, run.run_id), Ledger()
        with xcom.push_error_xcom(context["ti"]):
            self._check_recorded_jobs(load_run_statuses(ledger, run.run_id))
            job_ids = self.submit(self._build_inputs(run))
        self._record_jobs(ledger, builder, dict(zip(self.positions, job_ids, strict=True)))
        ledger.close()
        return job_ids

    def _check_recorded_jobs(self, statuses: Sequence[ProcessStatus]) -> None:
        for status in statuses:
            is_same_analysis = (status.hive, status.analysis) == (self.hive_conn_id, self.analysis)
            if status.process == self.process and status.job_id is not None and not is_same_analysis:
                raise JobInOtherHive(self.process, status.job_id, status.hive, status.analysis)

    def _build_inputs(self, run: Any) -> list[dict[str, Any]]:
        batch = EventBatch.from_conf(run.conf)
        return [batch.build_job_input(position, run.run_id, self.task_id) for position in self.positions]

    def _record_jobs(self, ledger: Ledger, builder: ReportBuilder, jobs: dict[int, int]) -> None:
        event_ids = load_event_ids(ledger, builder.run_id)
        reports = [builder.submitted(position, self.process, job_id) for position, job_id in jobs.items()]
        recorded = {(event_ids[position], self.process): job_id for position, job_id in jobs.items()}
        store_jobs(ledger, recorded, to_pending(reports, builder.run_id, event_ids))
