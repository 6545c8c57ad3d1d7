"""Start runs of ``process_event`` from a task, for events that the ledger has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse, TriggerDagRun

from event_hooks import settings
from event_hooks.api.watch import note_of

if TYPE_CHECKING:
    from event_hooks.ledger.ledger import Ledger


def start(ledger: Ledger, run_id: str) -> int:
    """
    Start a run for the events that the ledger has under its id, unless it was started before.

    :return: how many events it has.
    :raises RuntimeError: Airflow does not start it now; ``tend_ledger`` will.
    """
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS  # exists only in a task

    events = [entry.payload for entry in ledger.events_of(run_id)]
    conf = {"events": events}
    asked = TriggerDagRun(dag_id=settings.DAG_ID, run_id=run_id, conf=conf, note=note_of(events))
    answer = SUPERVISOR_COMMS.send(asked)
    if isinstance(answer, ErrorResponse) and answer.error != ErrorType.DAGRUN_ALREADY_EXISTS:
        raise RuntimeError(f"the run {run_id} could not be started: {answer.error.value}, {answer.detail}")
    return len(events)
