"""Duplicates and pending work in the ledger of the running system."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from event_hooks.api import run_starter
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events
from event_hooks.ledger.records import EventRequest, NewEvent, StoredEvent
from tests.support.system import WAIT_SECONDS, System
from tests.system.events import practice_event
from tools.runs import DAG_PATH


def make_old(system: System, genome: str) -> None:
    """Make events so old that maintain_ledger starts their runs."""
    statement = "UPDATE event SET received_at = received_at - interval '1 minute' WHERE genome LIKE :genome"
    system.ledger.execute(text(statement), {"genome": f"{genome}%"})


def test_pending_events_are_started_although_the_type_of_one_has_left_the_lookup(
    system: System, genome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_EVENT_LEDGER", system.airflow.ledger_url)
    types = ("new_genebuild", "removed_type", "new_genebuild", "new_genebuild")
    payloads = [practice_event(f"{genome}_{position}", name) for position, name in enumerate(types)]
    ledger, run_id = Ledger(), f"not_started__{uuid4().hex}"
    new_events = [
        NewEvent(uuid4().hex, payload["type"], payload["genome"], payload, "test") for payload in payloads
    ]
    accept_events(ledger, new_events, run_id)
    ledger.close()
    make_old(system, genome)
    system.run_maintenance()
    keys = lambda: [system.list_routing_keys(payload["genome"]) for payload in payloads]  # noqa: E731
    expected = [["report.fatal"] if name == "removed_type" else ["report.info"] for name in types]
    system.runs.wait_until(lambda: keys() == expected, 1.5 * WAIT_SECONDS, lambda: str(keys()))
    assert len(system.jobs(run_id)) == 3


def test_an_event_that_arrives_after_route_has_read_its_events_gets_another_run(
    system: System, genome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API server keeps the run of the first event open, and maintain_ledger starts it meanwhile."""
    monkeypatch.setenv("AIRFLOW_CONN_EVENT_LEDGER", system.airflow.ledger_url)
    monkeypatch.setattr(run_starter, "WINDOW_SECONDS", 10 * WAIT_SECONDS)
    ledger, events = Ledger(), [practice_event(f"{genome}_{index}", "new_genebuild") for index in range(2)]
    starter = run_starter.RunStarter(lambda: ledger, lambda run_id, *_: start_run(system, events[1], run_id))
    first = accept(starter, events[0])
    make_old(system, genome)
    system.run_maintenance()
    path = f"{DAG_PATH}/dagRuns/{first.run_id}/taskInstances/route"
    state = lambda: system.runs.request("GET", path).json().get("state")  # noqa: E731
    system.wait(lambda: state() == "success", state)
    second = accept(starter, events[1])
    starter.close()
    ledger.close()
    assert second.run_id != first.run_id
    for event, stored in zip(events, (first, second), strict=True):
        assert system.runs.wait_finished(str(stored.run_id), WAIT_SECONDS) == "success"
        assert len(system.jobs(str(stored.run_id))) == 1
        assert system.list_routing_keys(event["genome"]) == ["report.info"]


def accept(starter: run_starter.RunStarter, payload: dict[str, Any]) -> StoredEvent:
    """Store an event as the API server does."""
    new_event = NewEvent(uuid4().hex, payload["type"], payload["genome"], payload, "api")
    request = EventRequest([new_event], [[("dump_peptide", "hive_test", "event_dump_peptide")]])
    (result,) = starter.accept([(request, "admin")])
    assert isinstance(result, list), result
    return result[0]


def start_run(system: System, event: dict[str, Any], run_id: str) -> None:
    """Start a run; the ledger has its event already."""
    system.runs.trigger(event, run_id).raise_for_status()


def test_a_duplicate_event_creates_no_second_job(system: System, genome: str) -> None:
    event = {**practice_event(genome, "new_genebuild"), "event_id": uuid4().hex}
    first, state = system.run(event)
    assert state == "success"
    second, state = system.run({"events": [event, {**event, "event_id": uuid4().hex}]})
    assert state == "success"
    assert (len(system.jobs(first)), len(system.jobs(second))) == (1, 1)
    assert system.list_routing_keys(genome) == ["report.info", "report.info"]


def test_pending_reports_are_sent_by_the_maintenance_dag(system: System, genome: str) -> None:
    run_id, state = system.run(practice_event(genome, "new_genebuild"))
    assert state == "success"
    message_ids = lambda: [report["message_id"] for report in system.all_reports(genome)]  # noqa: E731
    sent = message_ids()
    system.ledger.execute(text("UPDATE report SET sent_at = NULL WHERE run_id = :run"), {"run": run_id})
    system.run_maintenance()
    system.runs.wait_until(
        lambda: len(message_ids()) >= 2 * len(sent), 90, lambda: "maintain_ledger sent nothing"
    )
    assert message_ids() == sent * 2
    pending = "SELECT count(*) FROM report WHERE sent_at IS NULL AND run_id = :run"
    system.wait(lambda: system.ledger_rows(pending, run=run_id) == [(0,)], lambda: "reports stay pending")
