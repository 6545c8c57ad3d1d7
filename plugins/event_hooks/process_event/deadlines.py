"""
Report processes that are not finished at their deadline.

`maintain_ledger` calls this, and not one of Airflow's deadline alerts: they call a function in a triggerer,
and the triggerer of Airflow 3.3.2 ends with ``StaleDataError`` if the row of the call is deleted meanwhile
(seen in tests that delete runs).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from event_hooks.ledger.events import load_run
from event_hooks.ledger.lateness import list_late
from event_hooks.process_event import recording

if TYPE_CHECKING:
    from event_hooks.events.lookups import Process
    from event_hooks.ledger.database import Ledger

log = logging.getLogger(__name__)


def report_late_processes(ledger: Ledger, processes: Iterable[Process]) -> None:
    """
    Record each process that is late, with one report for a run; idempotent.

    :param processes: ``deadline`` is the number of seconds after which a planned process is late.
    """
    deadlines = {process.name: process.deadline for process in processes if process.deadline}
    for run_id, process in list_late(ledger, deadlines):
        log.warning("Run %s: %s is not finished after %s s", run_id, process, deadlines[process])
        recording.record_late(ledger, load_run(ledger, run_id), process, deadlines[process])
