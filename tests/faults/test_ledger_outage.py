"""The ledger's tables cannot be used for a while."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text

from tests.support.system import LIMIT, System
from tests.system.events import practice_event


@pytest.fixture
def ledger(system: System) -> Iterator[Connection]:
    """The ledger's database; each statement sees what is committed by then."""
    engine = create_engine(
        system.airflow.ledger_url.replace("://", "+psycopg2://", 1), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def rows(ledger: Connection, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in ledger.execute(text(statement), values)]


def test_events_wait_while_the_ledger_is_unavailable(system: System, ledger: Connection, genome: str) -> None:
    """The wait of the first event continues without it; the second event is not accepted."""
    waiting, new = f"{genome}_waiting", f"{genome}_new"
    first = system.start(practice_event(waiting, "new_genebuild", seconds=1))
    system.until_task(first, "dump_peptide.wait", "deferred")
    for table in ("event_process", "event"):
        ledger.execute(text(f"ALTER TABLE {table} RENAME TO {table}_away"))
    try:
        second = system.start(practice_event(new, "new_genebuild"))
        system.until_task(first, "dump_peptide.wait", "success")
        system.until_task(first, "report", "up_for_retry")
        system.until_task(second, "route", "up_for_retry")
        assert "cannot be used: relation" in system.log(second, "route")
        assert system.jobs(second) == []
        assert system.reports(waiting) == []
    finally:
        for table in ("event_process", "event"):
            ledger.execute(text(f"ALTER TABLE {table}_away RENAME TO {table}"))
    assert [system.runs.until_over(run_id, LIMIT) for run_id in (first, second)] == ["success"] * 2
    assert (system.keys(waiting), system.keys(new)) == (["report.info"], ["report.info"])
    states = "SELECT state FROM event_process JOIN event ON id = event_id WHERE run_id = :run"
    assert rows(ledger, states, run=first) == [("complete",)]
    assert len(system.jobs(second)) == 1
