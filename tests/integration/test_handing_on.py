"""Follow-up events while the event server is unreachable; tests/system has a real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from event_hooks.client import http
from event_hooks.exceptions import EventServerUnreachable
from event_hooks.follow_ups.send import send_follow_ups
from event_hooks.ledger import follow_ups
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events
from event_hooks.ledger.joins import Came, JoinWait
from event_hooks.ledger.processes import store_outcomes, store_plan
from event_hooks.ledger.records import (
    FollowUpEvent,
    NewEvent,
    ProcessOutcome,
    ProcessStatus,
    State,
    event_key,
)
from event_hooks.maintain_ledger.maintenance import alert
from tests.integration.ledger.databases import CONNECTION_VARIABLE, ledger_databases


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> Iterator[Ledger]:
    """A ledger with a follow-up event that is pending."""
    monkeypatch.setenv(CONNECTION_VARIABLE, ledger_databases(pytestconfig).empty("postgresql", Path()))
    ledger = Ledger()
    (entry,) = accept_events(ledger, [NewEvent(event_key("a", "1"), "a", "g", {"type": "a"}, "rest")], "run")
    store_plan(ledger, "run", [ProcessStatus(entry.id, 0, "dump", "hive", "analysis")])
    made = FollowUpEvent(entry.id, "dump", 0, {"type": "b", "event_id": "x"})
    store_outcomes(ledger, "dump", [ProcessOutcome(entry.id, State.COMPLETE)], "ti", (), [made])
    yield ledger
    ledger.close()


@pytest.mark.parametrize(
    ("connection", "event_uri", "reason"),
    [
        (None, None, "make an Airflow connection of this name, of type http, with user and password"),
        ("http://admin:secret_word@127.0.0.1:1", None, "Connection refused"),
        (
            json.dumps({"conn_type": "http", "password": "secret_word"}),
            "http://127.0.0.1:1",
            "Connection refused",
        ),
        (
            json.dumps({"conn_type": "http", "login": "admin", "password": "secret_word"}),
            None,
            "Connection refused",
        ),
    ],
    ids=["no connection", "no server", "a token, and an address in the settings", "our own address"],
)
def test_an_event_stays_pending_while_the_event_server_is_unreachable(
    connection: str | None,
    event_uri: str | None,
    reason: str,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "PAUSE", 0.01)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://127.0.0.1:1")
    if connection:
        monkeypatch.setenv("AIRFLOW_CONN_EVENT_SERVER", connection)
    if event_uri:
        monkeypatch.setenv("EVENT_URI", event_uri)
    with pytest.raises(EventServerUnreachable, match=reason) as caught:
        send_follow_ups(ledger)
    assert "secret_word" not in str(caught.value)
    assert len(follow_ups.load_pending_follow_ups(ledger)) == 1


def test_join_timeout_is_reported() -> None:
    came = Came(7, "new_genebuild", {"type": "new_genebuild", "genome": "g"}, "run", 3)
    moment = datetime(2026, 11, 2, 12, tzinfo=UTC)
    types = ("new_genebuild", "new_xrefs")
    (report,) = alert(JoinWait(1, "flat", "g", types, "alert", moment, moment, None, None, (came,)))
    assert (report.event_id, report.run_id, report.routing_key) == (7, "run", "report.warn")
    verdict, _, facts = json.loads(report.body)["message"].partition(": ")
    assert verdict == "Join timed out"
    assert json.loads(facts) == {
        "process": "flat",
        "run": "run",
        "genome": "g",
        "came": ["new_genebuild"],
        "missing": ["new_xrefs"],
        "since": "2026-11-02T12:00:00+00:00",
        "to_do": "send what is missing: flat waits again from the next of these events on",
    }
