"""Tell people when an event takes longer than its process should: Airflow's deadline alerts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from event_hooks.ledger.records import OPEN
from event_hooks.reports.outbox import owed
from event_hooks.reports.story import Story
from event_hooks.scribe import scribe_of_loop

if TYPE_CHECKING:
    from event_hooks.ledger.ledger import Ledger
    from event_hooks.lookups import Process


def deadlines(processes: Iterable[Process]) -> list[DeadlineAlert] | None:
    """Give the DAG's deadlines: one for each process that has ``late_after``, from the run's start on."""
    return [
        DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=timedelta(seconds=one.late_after),
            callback=AsyncCallback(tell, {"process": one.name, "seconds": one.late_after}),
            name=f"{one.name} is late",
        )
        for one in processes
        if one.late_after
    ] or None


async def tell(process: str, seconds: float, context: Mapping[str, Any]) -> None:
    """Owe a report of it, if the process is at work in that run; Airflow calls this in a triggerer."""
    run_id = context["dag_run"]["dag_run_id"]
    await scribe_of_loop().write(partial(_owe, run_id, process, seconds))


def _owe(run_id: str, process: str, seconds: float, ledger: Ledger) -> None:
    late = [one for one in ledger.standing(run_id) if one.process == process and one.state in OPEN]
    if not late:
        return
    first = late[0]
    entry = ledger.entry(first.event_id)
    if entry:
        story = Story({"events": [entry.payload]}, run_id, first=first.position)
        report = story.late(first.position, process, first.job_id, len(late), seconds)
        ledger.owe(owed([report], run_id, {first.position: first.event_id}))
