"""Follow-up events while the event server is unreachable; tests/system has a real event server."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from event_hooks.client import http
from event_hooks.exceptions import EventServerUnreachable
from event_hooks.follow_ups.send import send_follow_ups
from event_hooks.ledger import follow_ups
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events
from event_hooks.ledger.joins import JoinWait, JoinWaitEvent
from event_hooks.ledger.outcomes import store_outcomes
from event_hooks.ledger.processes import store_plan
from event_hooks.ledger.records import (
    FollowUpEvent,
    NewEvent,
    ProcessOutcome,
    ProcessState,
    ProcessStatus,
    event_key,
)
from event_hooks.maintain_ledger.maintenance import build_timeout_reports
from tests.support.json_server import run_json_server


@pytest.fixture
def ledger(ledger: Ledger) -> Ledger:
    """A ledger with a pending follow-up event."""
    (event,) = accept_events(ledger, [NewEvent(event_key("a", "1"), "a", "g", {"type": "a"}, "rest")], "run")
    store_plan(ledger, "run", [ProcessStatus(event.id, 0, "dump", "hive", "analysis")])
    follow_up = FollowUpEvent(event.id, "dump", 0, {"type": "b", "event_id": "x"})
    store_outcomes(ledger, "dump", [ProcessOutcome(event.id, ProcessState.COMPLETE)], "ti", (), [follow_up])
    return ledger


@pytest.mark.parametrize(
    ("connection", "event_uri", "reason"),
    [
        (None, None, "create an Airflow connection of this name, of type http, with user and password"),
        ("http://admin:secret_word@127.0.0.1:1", None, "Connection refused"),
        ("http://admin:12/secret_word@127.0.0.1:1", None, "percent-encode"),
        ("http://127.0.0.1:1", "http://admin:p#secret_word@127.0.0.1:1", "percent-encode"),
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
    ids=[
        "no connection",
        "no server",
        "ambiguous",
        "ambiguous setting",
        "a token, and an address in the settings",
        "our own address",
    ],
)
def test_an_event_stays_pending_while_the_event_server_is_unreachable(
    connection: str | None,
    event_uri: str | None,
    reason: str,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://127.0.0.1:1")
    if connection:
        monkeypatch.setenv("AIRFLOW_CONN_EVENT_SERVER", connection)
    if event_uri:
        monkeypatch.setenv("EVENT_URI", event_uri)
    with pytest.raises(EventServerUnreachable, match=reason) as caught:
        send_follow_ups(ledger)
    assert "secret_word" not in str(caught.value)
    assert len(follow_ups.load_pending_follow_ups(ledger)) == 1


def test_long_events_are_sent_in_requests_of_limited_length(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    (event_id,) = {item.event_id for item in follow_ups.load_pending_follow_ups(ledger)}
    sizes = [100_000, 300_000, 300_000, 600_000, 10]
    long_events = [
        FollowUpEvent(event_id, "dump", number, {"type": "b", "event_id": str(number), "note": "x" * size})
        for number, size in enumerate(sizes, 1)
    ]
    ledger.write(lambda connection: follow_ups.insert_follow_ups(connection, long_events))
    with run_json_server() as server:
        monkeypatch.setenv("EVENT_URI", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AIRFLOW_CONN_EVENT_SERVER", "http://")
        batches = [["x", "1", "2"], ["3"], ["4"], ["5"]]
        server.answers = [(201, {}, [{"id": number} for number in batch]) for batch in batches]
        assert send_follow_ups(ledger) == 6
        sent = [[event["event_id"] for event in request[3]] for request in server.requests]
    assert sent == batches
    assert follow_ups.load_pending_follow_ups(ledger) == []


def test_a_join_timeout_is_reported() -> None:
    arrived = JoinWaitEvent(7, "new_genebuild", {"type": "new_genebuild", "genome": "g"}, "run", 3)
    moment = datetime(2026, 11, 2, 12, tzinfo=UTC)
    types = ("new_genebuild", "new_xrefs")
    (report,) = build_timeout_reports(
        JoinWait(1, "flat", "g", types, "alert", moment, moment, None, None, (arrived,))
    )
    assert (report.event_id, report.run_id, report.routing_key) == (7, "run", "report.warn")
    summary, _, facts = json.loads(report.body)["message"].partition(": ")
    assert summary == "Join timed out"
    assert json.loads(facts) == {
        "process": "flat",
        "run": "run",
        "genome": "g",
        "arrived": ["new_genebuild"],
        "missing": ["new_xrefs"],
        "since": "2026-11-02T12:00:00+00:00",
        "to_do": "send the missing events: the next event of these types starts a new join of flat",
    }
