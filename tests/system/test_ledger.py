"""Duplicates and pending reports in the ledger of the running system."""

from __future__ import annotations

from uuid import uuid4

from sqlalchemy import text

from tests.support.system import System
from tests.system.events import facts, practice_event, step


def test_a_duplicate_event_creates_no_second_job(system: System, genome: str) -> None:
    event = {**practice_event(genome, "new_genebuild"), "event_id": uuid4().hex}
    first, state = system.run(event)
    assert state == "success"
    second, state = system.run({"events": [event, {**event, "event_id": uuid4().hex}]})
    assert state == "success"
    assert (len(system.jobs(first)), len(system.jobs(second))) == (1, 1)
    assert system.list_routing_keys(genome) == ["report.info", "report.info"]


def test_a_late_process_is_reported_by_the_maintenance_dag(system: System, genome: str) -> None:
    run_id = system.start(practice_event(genome, "idle"))
    system.wait_for_task(run_id, "dump_idle.wait", "deferred")
    earlier = "UPDATE event SET planned_at = planned_at - interval '1 hour' WHERE genome = :genome"
    system.ledger.execute(text(earlier), {"genome": genome})
    system.run_maintenance()
    list_late = lambda: [report for report in system.all_reports(genome) if step(report) == "late"]  # noqa: E731
    system.wait(list_late, lambda: "no report")
    (late,) = list_late()
    assert (late["routing_key"], facts(late)["events"], facts(late)["seconds"]) == ("report.warn", 1, 3600)


def test_pending_reports_are_sent_by_the_api_server(system: System, genome: str) -> None:
    run_id, state = system.run(practice_event(genome, "new_genebuild"))
    assert state == "success"
    message_ids = lambda: [report["message_id"] for report in system.all_reports(genome)]  # noqa: E731
    sent = message_ids()
    system.ledger.execute(text("UPDATE report SET sent_at = NULL WHERE run_id = :run"), {"run": run_id})
    system.runs.wait_until(lambda: len(message_ids()) >= 2 * len(sent), 10, lambda: "nothing was sent")
    assert message_ids() == sent * 2
    pending = "SELECT count(*) FROM report WHERE sent_at IS NULL AND run_id = :run"
    system.wait(lambda: system.ledger_rows(pending, run=run_id) == [(0,)], lambda: "reports stay pending")
