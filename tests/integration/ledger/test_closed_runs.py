"""A run that has read its events takes no further events, on real database servers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event as listeners
from sqlalchemy import select, update

from event_hooks.exceptions import RunClosed
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_requests, close_run, list_runs_since, load_run_events
from event_hooks.ledger.records import EventRequest, NewEvent, StoredEvent, event_key
from event_hooks.ledger.retention import prune_events
from event_hooks.ledger.tables import event_run

START = datetime(2026, 1, 1, tzinfo=UTC)


def accept(ledger: Ledger, name: str, run_id: str = "run", first_position: int = 0) -> StoredEvent:
    """Store an event in a run."""
    new_event = NewEvent(event_key("t", name), "t", None, {"type": "t", "event_id": name}, "test")
    ((accepted,),), _ = accept_requests(ledger, [EventRequest([new_event], [[]])], run_id, first_position)  # type: ignore[misc]
    return accepted


def test_a_closed_run_takes_no_further_event(ledger: Ledger) -> None:
    first = accept(ledger, "1")
    for _ in range(2):
        close_run(ledger, "run")
    with pytest.raises(RunClosed, match="run run has read its events already"):
        accept(ledger, "2", first_position=1)
    assert [stored.id for stored in load_run_events(ledger, "run")] == [first.id]


def test_a_run_without_events_can_be_closed(ledger: Ledger) -> None:
    close_run(ledger, "run")
    with pytest.raises(RunClosed):
        accept(ledger, "1")
    assert list_runs_since(ledger, START) == []


def test_a_stored_event_of_a_closed_run_is_a_duplicate(ledger: Ledger) -> None:
    first = accept(ledger, "1")
    close_run(ledger, "run")
    assert (accept(ledger, "1").id, accept(ledger, "1", "other run").run_id) == (first.id, "run")


def test_closing_a_run_waits_for_a_transaction_that_stores_events(ledger: Ledger) -> None:
    inserted, may_commit = threading.Event(), threading.Event()

    def pause_after_insert(_: Any, __: Any, sql: str, *___: Any) -> None:
        if sql.startswith("INSERT INTO event ("):
            inserted.set()
            may_commit.wait(10)

    def close_and_read() -> list[StoredEvent]:
        close_run(ledger, "run")
        return load_run_events(ledger, "run")

    listeners.listen(ledger._engine, "after_cursor_execute", pause_after_insert)
    with ThreadPoolExecutor(2) as pool:
        accepted = pool.submit(accept, ledger, "1")
        assert inserted.wait(10)
        read = pool.submit(close_and_read)
        threading.Timer(0.3, may_commit.set).start()
        assert [stored.id for stored in read.result()] == [accepted.result().id]


@pytest.mark.parametrize("ledger_server", ["postgresql", "mysql"], indirect=True)
def test_an_event_that_arrives_while_its_run_is_closed_is_not_stored(ledger: Ledger) -> None:
    with ThreadPoolExecutor(1) as pool:
        with ledger.transaction() as connection:
            connection.execute(event_run.insert().values(run_id="run", closed_at=START))
            accepted = pool.submit(accept, ledger, "1")
            assert not accepted.done()
        with pytest.raises(RunClosed):
            accepted.result()
    assert load_run_events(ledger, "run") == []


def test_old_closed_runs_are_pruned(ledger: Ledger) -> None:
    for run_id in ("old", "young"):
        close_run(ledger, run_id)
    accept(ledger, "1", "open")
    with ledger.transaction() as connection:
        connection.execute(update(event_run).where(event_run.c.run_id == "old").values(closed_at=START))
    prune_events(ledger, datetime.now(UTC) - START - timedelta(days=1))
    run_ids = [row.run_id for row in ledger.read(select(event_run).order_by(event_run.c.run_id))]
    assert run_ids == ["open", "young"]
