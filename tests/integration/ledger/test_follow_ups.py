"""Events that are owed to an event server."""

from __future__ import annotations

from event_hooks.ledger import follow_ups, overview
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events
from event_hooks.ledger.overview import has_pending_work
from event_hooks.ledger.processes import store_outcomes, store_plan
from event_hooks.ledger.records import (
    FollowUpEvent,
    NewEvent,
    PendingReport,
    ProcessOutcome,
    ProcessStatus,
    State,
    event_key,
)
from event_hooks.ledger.reports import count_pending_reports


def succeeded(ledger: Ledger, name: str = "a", attempt: str = "ti_1", error: str | None = None) -> int:
    """Let an event's process succeed, with one event that follows, and give the event's id."""
    (entry,) = accept_events(
        ledger, [NewEvent(event_key("a", name), "a", "g", {"type": "a"}, "rest")], f"run_{name}"
    )
    store_plan(ledger, f"run_{name}", [ProcessStatus(entry.id, 0, "dump", "hive", "analysis")])
    made = FollowUpEvent(entry.id, "dump", 0, {"type": "b", "event_id": f"{name}_b"}, error)
    store_outcomes(ledger, "dump", [ProcessOutcome(entry.id, State.COMPLETE)], attempt, (), [made])
    return entry.id


def test_an_event_is_owed_with_the_outcome_and_until_it_is_sent(ledger: Ledger) -> None:
    event_id = succeeded(ledger)
    succeeded(ledger, "other")
    owed, _other = follow_ups.load_pending_follow_ups(ledger)
    assert (owed.event_id, owed.payload) == (event_id, {"type": "b", "event_id": "a_b"})
    assert has_pending_work(ledger)
    follow_ups.mark_sent(ledger, [owed.id])
    assert [one.payload["event_id"] for one in follow_ups.load_pending_follow_ups(ledger)] == ["other_b"]
    (known,) = follow_ups.list_follow_ups(ledger, event_id)
    assert known.sent_at


def test_a_second_attempt_owes_nothing_new(ledger: Ledger) -> None:
    for attempt in ("ti_1", "ti_2"):
        succeeded(ledger, attempt=attempt)
    assert len(follow_ups.load_pending_follow_ups(ledger)) == 1


def test_what_is_refused_is_owed_no_more_and_told_once(ledger: Ledger) -> None:
    event_id = succeeded(ledger)
    (owed,) = follow_ups.load_pending_follow_ups(ledger)
    report = PendingReport("m" * 36, event_id, "run_a", "report.fatal", "{}")
    for _ in range(2):
        follow_ups.mark_rejected(ledger, owed, "no such type", [report])
    assert follow_ups.load_pending_follow_ups(ledger) == []
    assert count_pending_reports(ledger) == 1
    assert follow_ups.list_follow_ups(ledger, event_id)[0].error == "no such type"


def test_what_cannot_be_handed_on_is_kept_and_not_owed(ledger: Ledger) -> None:
    event_id = succeeded(ledger, error="type: expected a string")
    assert follow_ups.load_pending_follow_ups(ledger) == []
    assert follow_ups.list_follow_ups(ledger, event_id)[0].error == "type: expected a string"


def test_a_chain_is_found_from_each_of_its_events(ledger: Ledger) -> None:
    root = succeeded(ledger)
    ids = [root]
    for name in ("b", "c"):
        payload = {"type": name, "follows": {"correlation_id": "run_a/0"}}
        (entry,) = accept_events(
            ledger, [NewEvent(event_key(name, name), name, "g", payload, "api")], f"run_{name}"
        )
        ids.append(entry.id)
    succeeded(ledger, "stranger")
    for event_id in ids:
        assert [one.id for one in overview.chain(ledger, event_id)] == ids
