"""Chains of events: an event joins a chain of this ledger only if the ledger has raised it."""

from __future__ import annotations

from typing import Any

from event_hooks.events.models import build_causation
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events, accept_requests, load_run
from event_hooks.ledger.follow_ups import insert_follow_ups
from event_hooks.ledger.overview import list_related_events
from event_hooks.ledger.records import EventRequest, FollowUpEvent, NewEvent, StoredEvent, event_key
from event_hooks.reports.builder import ReportBuilder

FIRST_RUN = "first"


def accept(ledger: Ledger, run_id: str, payload: dict[str, Any]) -> StoredEvent:
    """Accept an event as the API does."""
    key = event_key(payload["type"], payload.get("event_id", run_id))
    request = EventRequest([NewEvent(key, payload["type"], None, payload, "api")], [[]])
    (events,), _ = accept_requests(ledger, [request], run_id, 0)
    assert isinstance(events, list)
    return events[0]


def raise_follow_up(ledger: Ledger) -> tuple[StoredEvent, dict[str, Any]]:
    """Accept an event, and return it with the follow-up event that its success raises."""
    first = accept(ledger, FIRST_RUN, {"type": "first"})
    follows = build_causation(first.payload, FIRST_RUN, 0, "dump", None)
    payload = {"type": "second", "event_id": "2", "follows": follows}
    ledger.write(
        lambda connection: insert_follow_ups(connection, [FollowUpEvent(first.id, "dump", 0, payload)])
    )
    return first, payload


def list_related(ledger: Ledger, event: StoredEvent) -> list[int]:
    return [view.id for view in list_related_events(ledger, event.id)]


def find_reported_chain(ledger: Ledger, run_id: str) -> str:
    """Return the correlation id in the reports of a run."""
    report = ReportBuilder(load_run(ledger, run_id)).received(0, [])
    return str(report.params["event_hooks"]["correlation_id"])


def test_a_follow_up_event_joins_the_chain_of_its_cause(ledger: Ledger) -> None:
    first, payload = raise_follow_up(ledger)
    second = accept(ledger, "second", payload)
    assert list_related(ledger, first) == [first.id, second.id]
    assert find_reported_chain(ledger, "second") == "first/0"


def test_a_forged_origin_joins_no_chain_of_this_ledger(ledger: Ledger) -> None:
    first, payload = raise_follow_up(ledger)
    forged = accept(ledger, "forged", {**payload, "event_id": "other", "genome": "of_another_user"})
    conf = NewEvent("conf", "second", None, {**payload, "event_id": "third"}, "manual")
    (triggered,) = accept_events(ledger, [conf], "triggered")
    assert list_related(ledger, first) == [first.id]
    assert [list_related(ledger, event) for event in (forged, triggered)] == [[forged.id], [triggered.id]]
    assert find_reported_chain(ledger, "forged") == "forged/0"
    assert find_reported_chain(ledger, "triggered") == "triggered/0"


def test_a_chain_of_another_system_is_accepted_as_told(ledger: Ledger) -> None:
    follows = build_causation({"type": "first"}, "run_of_another_system", 3, "dump", None)
    accept(ledger, "second", {"type": "second", "event_id": "2", "follows": follows})
    assert find_reported_chain(ledger, "second") == "run_of_another_system/3"
