"""Report events that take longer than the deadline of their process, with Airflow's deadline alerts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.callback import AsyncCallback  # airflow.sdk exports them, but its stub does not
from airflow.sdk.definitions.deadline import BaseDeadlineReference, DeadlineAlert

from event_hooks.ledger.events import load_run
from event_hooks.ledger.processes import is_run_planned, load_run_statuses
from event_hooks.ledger.records import UNFINISHED_STATES
from event_hooks.ledger.reports import store_reports
from event_hooks.process_event.ledger_writer import get_ledger_writer
from event_hooks.reports.builder import ReportBuilder
from event_hooks.reports.outbox import to_pending

if TYPE_CHECKING:
    from event_hooks.events.lookups import Process
    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.records import ProcessStatus


log = logging.getLogger(__name__)

PLAN_TIMEOUT = timedelta(minutes=5)
PLAN_POLL_SECONDS = 2.0


class RunCreation(BaseDeadlineReference):
    """
    The instant at which Airflow creates a run; Airflow evaluates the reference at that instant.

    Airflow's own ``DAGRUN_QUEUED_AT`` is the same instant then. But in Airflow 3.3.0 to 3.3.2, clearing a
    task of a run with such a deadline ahead is an HTTP 500 (apache/airflow#70368): the task is not cleared.
    Custom references implement ``_evaluate_with``, as the docstring of ``BaseDeadlineReference`` describes.
    """

    def _evaluate_with(self, *, session: Any, **kwargs: Any) -> datetime:
        return datetime.now(UTC)


def build_deadlines(processes: Iterable[Process]) -> list[DeadlineAlert] | None:
    """Return an alert for each process with a ``deadline`` (seconds from the run's creation), or ``None``."""
    return [
        _build_deadline(process.name, process.deadline) for process in processes if process.deadline
    ] or None


def _build_deadline(process: str, seconds: float) -> DeadlineAlert:
    return DeadlineAlert(
        reference=RunCreation(),
        interval=timedelta(seconds=seconds),
        callback=AsyncCallback(report_late_process, {"process": process, "seconds": seconds}),
        name=f"{process} is late",
    )


async def report_late_process(process: str, seconds: float, context: Mapping[str, Any]) -> None:
    """
    Add a report that a process of a run is late, unless it has finished; Airflow calls this in a triggerer.

    Idempotent: the report has the same message id each time. On a busy machine, ``route`` may store the
    run's plan only after the deadline. The call then polls the ledger for the plan, for at most
    ``PLAN_TIMEOUT``: Airflow runs only the oldest 50 callbacks at a time.

    :param seconds: the deadline of the process, from the run's creation.
    :param context: as Airflow passes it: the run and the deadline.
    """
    run_id = context["dag_run"]["dag_run_id"]
    # Computed from the deadline, because another triggerer may restart the callback at any time.
    timeout_at = datetime.fromisoformat(str(context["deadline"]["deadline_time"])) + PLAN_TIMEOUT
    operation = partial(_add_report_if_late, run_id, process, seconds)
    while not await get_ledger_writer().write(operation, key=(run_id, process)):
        if datetime.now(UTC) > timeout_at:
            log.warning("Run %s has no plan: no report that its %s is late", run_id, process)
            return
        await asyncio.sleep(PLAN_POLL_SECONDS)


def _add_report_if_late(run_id: str, process: str, seconds: float, ledger: Ledger) -> bool:
    """Add the report if events of the process are unfinished; return whether the run has a plan."""
    statuses = load_run_statuses(ledger, run_id)
    late = [status for status in statuses if status.process == process and status.state in UNFINISHED_STATES]
    if late:
        _add_report(run_id, process, seconds, late, ledger)
    return bool(statuses) or is_run_planned(ledger, run_id)


def _add_report(
    run_id: str, process: str, seconds: float, late: Sequence[ProcessStatus], ledger: Ledger
) -> None:
    first = late[0]
    builder = ReportBuilder(load_run(ledger, run_id))
    report = builder.late(first.position, process, first.job_id, len(late), seconds)
    store_reports(ledger, to_pending([report], run_id))
