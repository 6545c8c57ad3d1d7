"""What the flow writes into the ledger, and what comes of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, create_engine, text

from event_hooks.ledger.ledger import Ledger
from event_hooks.ledger.records import Received
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
    heard = system.all_reports(genome)
    assert {message_id for (message_id,) in rows(ledger, reports, run=run_id)} == {
        report["message_id"] for report in heard
    }
    steps = [report["params"]["event_hooks"]["step"] for report in heard]
    assert sorted(steps[1:-1]) == ["ended", "ended", "submitted", "submitted"]
    assert (steps[0], steps[-1]) == ("received", "finished")


def test_in_a_batch_each_event_is_told_when_its_own_job_is_over(system: System, genome: str) -> None:
    quick, slow = (
        {"type": "new_genebuild", "genome": f"{genome}_{n}", "practice": {"seconds": seconds}}
        for n, seconds in enumerate([0.1, 5])
    )
    run_id = system.start({"events": [quick, slow]})
    system.runs.until(lambda: bool(system.keys(f"{genome}_0")), LIMIT, lambda: str(system.jobs(run_id)))
    assert system.runs.task_states(run_id)["dump_peptide.wait"] == "deferred"
    assert system.keys(f"{genome}_1") == []
    assert system.runs.until_over(run_id, LIMIT) == "success"
    assert (system.keys(f"{genome}_0"), system.keys(f"{genome}_1")) == (["report.info"], ["report.info"])


def test_progress_is_written_down_and_reported(system: System, ledger: Connection, genome: str) -> None:
    slow = {"type": "new_genebuild", "genome": genome, "practice": {"seconds": 4}}
    run_id = system.start(slow)
    noted = "SELECT max(total) FROM event_process JOIN event ON id = event_id WHERE run_id = :run"
    system.runs.until(
        lambda: (rows(ledger, noted, run=run_id)[0][0] or 0) > 1, LIMIT, lambda: str(system.jobs(run_id))
    )
    assert system.runs.until_over(run_id, LIMIT) == "success"
    told = [one for one in system.all_reports(genome) if one["params"]["event_hooks"]["step"] == "progress"]
    assert told
    assert all('"status": "running"' in report["message"] for report in told)


def test_a_failure_after_a_clear_is_told_again(system: System, ledger: Connection, genome: str) -> None:
    run_id = system.start({"type": "new_genebuild", "genome": genome, "practice": {"fail": "child"}})
    for count in (1, 2):
        assert system.runs.until_over(run_id, LIMIT) == "failed"
        assert system.keys(genome) == ["report.fatal"] * count
        if count == 1:
            system.clear(run_id, "dump_peptide.wait")
    assert len({report["message_id"] for report in system.reports(genome)}) == 2
    states = "SELECT state FROM event_process JOIN event ON id = event_id WHERE run_id = :run"
    assert rows(ledger, states, run=run_id) == [("failed",)]


def test_an_accepted_event_that_nobody_started_is_started(
    system: System, ledger: Connection, genome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_EVENT_LEDGER", system.airflow.ledger_url)
    payloads = [{"type": "new_genebuild", "genome": f"{genome}_{n}"} for n in range(3)]
    promises = Ledger()
    promises.accept(
        [
            Received(uuid4().hex, str(payload["type"]), payload["genome"], payload, "test")
            for payload in payloads
        ]
    )
    promises.close()
    earlier = "UPDATE event SET received_at = received_at - interval '1 minute' WHERE genome LIKE :genome"
    ledger.execute(text(earlier), {"genome": f"{genome}%"})
    system.tend()
    over = lambda: [system.keys(str(payload["genome"])) for payload in payloads]  # noqa: E731
    system.runs.until(lambda: over() == [["report.info"]] * 3, 1.5 * LIMIT, lambda: str(over()))
    runs = "SELECT DISTINCT run_id FROM event WHERE genome LIKE :genome"
    ((run_id,),) = rows(ledger, runs, genome=f"{genome}%")
    assert len(system.jobs(run_id)) == 3


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
    reports = [report["message_id"] for report in system.all_reports(genome)]
    ledger.execute(text("UPDATE report SET sent_at = NULL WHERE run_id = :run"), {"run": run_id})
    system.tend()
    heard = lambda: [report["message_id"] for report in system.all_reports(genome)]  # noqa: E731
    system.runs.until(lambda: len(heard()) >= 2 * len(reports), 90, lambda: "tend_ledger sent nothing")
    assert heard() == reports * 2
    assert rows(ledger, "SELECT count(*) FROM report WHERE sent_at IS NULL") == [(0,)]


def test_a_wait_goes_on_while_the_ledger_is_away(system: System, ledger: Connection, genome: str) -> None:
    run_id = system.start({"type": "new_genebuild", "genome": genome, "practice": {"seconds": 1}})
    system.until_task(run_id, "dump_peptide.wait", "deferred")
    ledger.execute(text("ALTER TABLE event_process RENAME TO event_process_away"))
    try:
        system.until_task(run_id, "dump_peptide.wait", "success")
        system.until_task(run_id, "report", "up_for_retry")
        assert system.reports(genome) == []
    finally:
        ledger.execute(text("ALTER TABLE event_process_away RENAME TO event_process"))
    assert system.runs.until_over(run_id, LIMIT) == "success"
    assert system.keys(genome) == ["report.info"]
    states = "SELECT state FROM event_process JOIN event ON id = event_id WHERE run_id = :run"
    assert rows(ledger, states, run=run_id) == [("complete",)]


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
