"""The ledger's tables are unavailable for a while."""

from __future__ import annotations

from sqlalchemy import text

from tests.support.system import WAIT_SECONDS, System
from tests.system.events import practice_event


def test_events_wait_while_the_ledger_is_unavailable(system: System, genome: str) -> None:
    """The wait of the first event ends when the ledger has its outcome; the second event is not accepted."""
    waiting, new = f"{genome}_waiting", f"{genome}_new"
    first = system.start(practice_event(waiting, "new_genebuild", seconds=1))
    system.wait_for_task(first, "dump_peptide.wait", "deferred")
    for table in ("event_process", "event"):
        system.ledger.execute(text(f"ALTER TABLE {table} RENAME TO {table}_unavailable"))
    try:
        second = system.start(practice_event(new, "new_genebuild"))
        system.wait(lambda: [status for _, status in system.jobs(first)] == ["DONE"])
        system.wait_for_task(second, "route", "up_for_retry")
        assert system.runs.load_task_states(first)["dump_peptide.wait"] == "deferred"
        assert "rejected the request: relation" in system.read_task_log(second, "route")
        assert system.jobs(second) == []
        assert system.reports(waiting) == []
    finally:
        for table in ("event_process", "event"):
            system.ledger.execute(text(f"ALTER TABLE {table}_unavailable RENAME TO {table}"))
    assert [system.runs.wait_finished(run_id, WAIT_SECONDS) for run_id in (first, second)] == ["success"] * 2
    assert (system.list_routing_keys(waiting), system.list_routing_keys(new)) == (
        ["report.info"],
        ["report.info"],
    )
    states = "SELECT state FROM event_process JOIN event ON id = event_id WHERE run_id = :run"
    assert system.ledger_rows(states, run=first) == [("complete",)]
    assert len(system.jobs(second)) == 1
