"""Tell people when an event takes longer than its process should: Airflow's deadline alerts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import BaseDeadlineReference, DeadlineAlert

from event_hooks.ledger.events import load_event
from event_hooks.ledger.processes import is_run_planned, load_run_statuses
from event_hooks.ledger.records import OPEN
from event_hooks.ledger.reports import add_reports
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
    The instant at which Airflow creates a run; Airflow asks for it at that moment.

    Airflow's own ``DAGRUN_QUEUED_AT`` is the same instant then. But in Airflow 3.3.0 to 3.3.2, clearing a
    task of a run with such a deadline ahead is an HTTP 500 (apache/airflow#70368): the task is not cleared.
    """

    def _evaluate_with(self, *, session: Any, **kwargs: Any) -> datetime:
        return datetime.now(UTC)


def deadlines(processes: Iterable[Process]) -> list[DeadlineAlert] | None:
    """Return the DAG's deadlines: one for each process that has ``deadline``, from the run's creation."""
    return [
        DeadlineAlert(
            reference=RunCreation(),
            interval=timedelta(seconds=one.deadline),
            callback=AsyncCallback(tell, {"process": one.name, "seconds": one.deadline}),
            name=f"{one.name} is late",
        )
        for one in processes
        if one.deadline
    ] or None


async def tell(process: str, seconds: float, context: Mapping[str, Any]) -> None:
    """
    Add a report that a process of a run is late, unless it has finished; Airflow calls this in a triggerer.

    On a busy machine, ``route`` may write the run's plan only after the deadline. The call then waits for the
    plan, for at most ``PLAN_TIMEOUT``: Airflow starts only the oldest 50 callbacks at a time.
    """
    run_id = context["dag_run"]["dag_run_id"]
    # Two triggerers may pass the callback to and fro, and each starts it from the beginning
    deadline = datetime.fromisoformat(str(context["deadline"]["deadline_time"])) + PLAN_TIMEOUT
    while not await get_ledger_writer().write(partial(_owe, run_id, process, seconds)):
        if datetime.now(UTC) > deadline:
            log.warning("Run %s has no plan: no report that its %s is late", run_id, process)
            return
        await asyncio.sleep(PLAN_POLL_SECONDS)


def _owe(run_id: str, process: str, seconds: float, ledger: Ledger) -> bool:
    """Add the report if it is due; return whether the run has a plan."""
    plan = load_run_statuses(ledger, run_id)
    late = [entry for entry in plan if entry.process == process and entry.state in OPEN]
    if late:
        _owe_report(run_id, process, seconds, late, ledger)
    return bool(plan) or is_run_planned(ledger, run_id)


def _owe_report(run_id: str, process: str, seconds: float, late: list[ProcessStatus], ledger: Ledger) -> None:
    first = late[0]
    entry = load_event(ledger, first.event_id)
    if entry:
        story = ReportBuilder({"events": [entry.payload]}, run_id, first=first.position)
        report = story.late(first.position, process, first.job_id, len(late), seconds)
        add_reports(ledger, to_pending([report], run_id, {first.position: first.event_id}))
