"""What the flow writes into the ledger, and what comes of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, create_engine, text

from tests.support.running_airflow import LIMIT, System


@pytest.fixture
def ledger(system: System) -> Iterator[Connection]:
    """The ledger, seen from outside; each statement sees what is committed by then."""
    engine = create_engine(
        system.airflow.ledger_url.replace("://", "+psycopg2://", 1), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def rows(ledger: Connection, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in ledger.execute(text(statement), values)]


def test_the_ledger_has_event_job_outcome_and_reports(
    system: System, ledger: Connection, genome: str
) -> None:
    run_id = system.start({"type": "new_assembly", "genome": genome})
    assert system.runs.until_over(run_id, LIMIT) == "success"
    events = "SELECT type, genome, source, position FROM event WHERE run_id = :run"
    assert rows(ledger, events, run=run_id) == [("new_assembly", genome, "manual", 0)]
    processes = (
        "SELECT process, state, job_id FROM event_process JOIN event ON id = event_id"
        " WHERE run_id = :run ORDER BY job_id"
    )
    noted = rows(ledger, processes, run=run_id)
    assert [job_id for *_, job_id in noted] == [job_id for job_id, _ in system.jobs(run_id)]
    assert {(process, state) for process, state, _ in noted} == {
        ("dump_dna", "complete"),
        ("dump_peptide", "complete"),
    }
    reports = "SELECT message_id FROM report WHERE run_id = :run AND sent_at IS NOT NULL"
    sent = {report["message_id"] for report in system.reports(genome)}
    assert {message_id for (message_id,) in rows(ledger, reports, run=run_id)} == sent
    assert len(sent) == 2


def test_an_event_that_is_known_is_not_done_again(system: System, genome: str) -> None:
    event = {"type": "new_genebuild", "genome": genome, "event_id": uuid4().hex}
    first = system.start(event)
    again = system.start({"events": [event, {**event, "event_id": uuid4().hex}]})
    for run_id in (first, again):
        assert system.runs.until_over(run_id, LIMIT) == "success"
    assert len(system.jobs(first)) + len(system.jobs(again)) == 2
    assert system.keys(genome) == ["report.info", "report.info"]


def test_a_report_that_is_owed_is_sent_by_the_tending_dag(
    system: System, ledger: Connection, genome: str
) -> None:
    run_id = system.start({"type": "new_genebuild", "genome": genome})
    assert system.runs.until_over(run_id, LIMIT) == "success"
    (report,) = system.reports(genome)
    ledger.execute(text("UPDATE report SET sent_at = NULL WHERE run_id = :run"), {"run": run_id})
    system.runs.until(lambda: len(system.reports(genome)) == 2, 90, lambda: "tend_ledger sent nothing")
    assert {again["message_id"] for again in system.reports(genome)} == {report["message_id"]}
    assert rows(ledger, "SELECT count(*) FROM report WHERE sent_at IS NULL") == [(0,)]


def test_no_event_is_accepted_while_the_ledger_is_away(
    system: System, ledger: Connection, genome: str
) -> None:
    ledger.execute(text("ALTER TABLE event RENAME TO event_away"))
    try:
        run_id = system.start({"type": "new_genebuild", "genome": genome})
        system.until_task(run_id, "route", "up_for_retry")
        time.sleep(2)
        assert system.jobs(run_id) == []
        assert "cannot be used: relation" in system.log(run_id, "route")
    finally:
        ledger.execute(text("ALTER TABLE event_away RENAME TO event"))
    assert system.runs.until_over(run_id, LIMIT) == "success"
    assert len(system.jobs(run_id)) == 1
