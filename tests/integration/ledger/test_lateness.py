"""The report of a process that is not finished at its ``deadline``."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from event_hooks.events.lookups import Process
from event_hooks.ledger.clock import load_time
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events
from event_hooks.ledger.lateness import store_late
from event_hooks.ledger.outcomes import store_outcomes
from event_hooks.ledger.processes import store_plan
from event_hooks.ledger.records import NewEvent, ProcessOutcome, ProcessState, event_key
from event_hooks.ledger.reports import list_run_reports
from event_hooks.ledger.tables import event
from event_hooks.process_event.deadlines import report_late_processes
from tests.integration.ledger.test_ledger import plan_processes
from tests.system.events import facts

SECONDS = 60.0

PROCESSES = [
    Process(name="dump", analysis="dump_dna", hive_conn_id="hive_test", deadline=SECONDS),
    Process(name="other", analysis="dump_dna", hive_conn_id="hive_test"),
]

pytestmark = [pytest.mark.parametrize("ledger_server", ["postgresql", "mysql", "sqlite"], indirect=True)]


def build_payload(genome: str) -> dict[str, str]:
    return {"type": "new_assembly", "genome": genome}


def plan_run(ledger: Ledger, run_id: str, *genomes: str) -> list[int]:
    """Store events of a run with the process ``dump``, and return their ids."""
    new = [
        NewEvent(event_key("new_assembly", genome), "new_assembly", genome, build_payload(genome), "rest")
        for genome in genomes
    ]
    ids = [accepted.id for accepted in accept_events(ledger, new, run_id)]
    store_plan(ledger, run_id, plan_processes(*ids))
    return ids


def make_older(ledger: Ledger, run_id: str, seconds: float) -> None:
    """Set the time at which a run was planned to ``seconds`` ago."""
    planned_at = load_time(ledger) - timedelta(seconds=seconds)
    with ledger.transaction() as connection:
        connection.execute(update(event).where(event.c.run_id == run_id).values(planned_at=planned_at))


def list_facts(ledger: Ledger, run_id: str) -> list[tuple[str, int]]:
    """Return message and number of events of the reports of a run."""
    bodies = [report.body for report in list_run_reports(ledger, run_id)]
    return [(body["message"].partition(":")[0], facts(body)["events"]) for body in bodies]


def test_a_late_process_is_reported_once_for_a_run(ledger: Ledger) -> None:
    plan_run(ledger, "run", "a", "b", "c")
    plan_run(ledger, "later_run", "d")
    report_late_processes(ledger, PROCESSES)
    make_older(ledger, "run", SECONDS + 1)
    make_older(ledger, "later_run", SECONDS - 30)
    for _ in range(2):
        report_late_processes(ledger, PROCESSES)
    assert list_facts(ledger, "run") == [("Event late", 3)]
    assert list_facts(ledger, "later_run") == []


def test_finished_processes_are_not_late(ledger: Ledger) -> None:
    first, second = plan_run(ledger, "run", "a", "b")
    make_older(ledger, "run", SECONDS + 1)
    store_outcomes(ledger, "dump", [ProcessOutcome(first, ProcessState.COMPLETE, None, None)], "", [])
    report_late_processes(ledger, PROCESSES)
    assert list_facts(ledger, "run") == [("Event late", 1)]
    store_outcomes(ledger, "dump", [ProcessOutcome(second, ProcessState.COMPLETE, None, None)], "", [])
    report_late_processes(ledger, PROCESSES)
    assert list_facts(ledger, "run") == [("Event late", 1)]


def test_a_process_that_finishes_before_it_is_stored_as_late_is_not_reported(ledger: Ledger) -> None:
    """``maintain_ledger`` reads the late processes before it stores each of them."""
    (event_id,) = plan_run(ledger, "run", "a")
    store_outcomes(ledger, "dump", [ProcessOutcome(event_id, ProcessState.COMPLETE, None, None)], "", [])
    store_late(ledger, "run", "dump", lambda late: pytest.fail(f"reported: {late}"))
