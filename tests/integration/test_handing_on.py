"""Follow-up events while the event server is unreachable; tests/system has a real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from event_hooks import requesting
from event_hooks.exceptions import EventServerUnreachable
from event_hooks.handing_on import hand_on
from event_hooks.ledger import follow_ups
from event_hooks.ledger.joins import Awaited, Came
from event_hooks.ledger.ledger import Ledger
from event_hooks.ledger.records import Outcome, OwedEvent, Received, Standing, State, key_of
from event_hooks.reports import outbox
from tests.integration.ledger.databases import CONNECTION_VARIABLE, ledger_databases


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> Iterator[Ledger]:
    """A ledger with a follow-up event that is pending."""
    monkeypatch.setenv(CONNECTION_VARIABLE, ledger_databases(pytestconfig).empty("postgresql", Path()))
    ledger = Ledger()
    (entry,) = ledger.accept([Received(key_of("a", "1"), "a", "g", {"type": "a"}, "rest")], "run")
    ledger.plan("run", [Standing(entry.id, 0, "dump", "hive", "analysis")])
    made = OwedEvent(entry.id, "dump", 0, {"type": "b", "event_id": "x"})
    ledger.record_outcomes("dump", [Outcome(entry.id, State.COMPLETE)], "ti", (), [made])
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
    monkeypatch.setattr(requesting, "PAUSE", 0.01)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://127.0.0.1:1")
    if connection:
        monkeypatch.setenv("AIRFLOW_CONN_EVENT_SERVER", connection)
    if event_uri:
        monkeypatch.setenv("EVENT_URI", event_uri)
    with pytest.raises(EventServerUnreachable, match=reason) as caught:
        hand_on(ledger)
    assert "secret_word" not in str(caught.value)
    assert len(follow_ups.owed_events(ledger)) == 1


def test_join_timeout_is_reported() -> None:
    came = Came(7, "new_genebuild", {"type": "new_genebuild", "genome": "g"}, "run", 3)
    moment = datetime(2026, 11, 2, 12, tzinfo=UTC)
    types = ("new_genebuild", "new_xrefs")
    (report,) = outbox.alert(Awaited(1, "flat", "g", types, "alert", moment, moment, None, None, (came,)))
    assert (report.event_id, report.run_id, report.routing_key) == (7, "run", "report.warn")
    verdict, _, facts = json.loads(report.body)["message"].partition(": ")
    assert verdict == "Event awaited in vain"
    assert json.loads(facts) == {
        "process": "flat",
        "run": "run",
        "genome": "g",
        "came": ["new_genebuild"],
        "missing": ["new_xrefs"],
        "since": "2026-11-02T12:00:00+00:00",
        "to_do": "send what is missing: flat waits again from the next of these events on",
    }
