"""Follow-up events that are pending for an event server."""

from __future__ import annotations

from event_hooks.events.models import build_causation
from event_hooks.ledger import follow_ups, overview
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events
from event_hooks.ledger.outcomes import store_outcomes
from event_hooks.ledger.overview import has_pending_work
from event_hooks.ledger.processes import store_plan
from event_hooks.ledger.records import (
    FollowUpEvent,
    NewEvent,
    PendingReport,
    ProcessOutcome,
    ProcessState,
    ProcessStatus,
    event_key,
)
from event_hooks.ledger.reports import count_pending_reports


def store_success(ledger: Ledger, name: str = "a", attempt: str = "ti_1", error: str | None = None) -> int:
    """Store the success of a process with a follow-up event, and return the id of its event."""
    (event,) = accept_events(
        ledger, [NewEvent(event_key("a", name), "a", "g", {"type": "a"}, "rest")], f"run_{name}"
    )
    store_plan(ledger, f"run_{name}", [ProcessStatus(event.id, 0, "dump", "hive", "analysis")])
    follow_up = FollowUpEvent(event.id, "dump", 0, {"type": "b", "event_id": f"{name}_b"}, error)
    store_outcomes(
        ledger, "dump", [ProcessOutcome(event.id, ProcessState.COMPLETE)], attempt, (), [follow_up]
    )
    return event.id


def test_a_follow_up_is_stored_with_the_outcome_and_pending_until_sent(ledger: Ledger) -> None:
    event_id = store_success(ledger)
    store_success(ledger, "other")
    pending, _other = follow_ups.load_pending_follow_ups(ledger)
    assert (pending.event_id, pending.payload) == (event_id, {"type": "b", "event_id": "a_b"})
    assert has_pending_work(ledger)
    follow_ups.mark_sent(ledger, [pending.id])
    assert [follow_up.payload["event_id"] for follow_up in follow_ups.load_pending_follow_ups(ledger)] == [
        "other_b"
    ]
    (sent,) = follow_ups.list_follow_ups(ledger, event_id)
    assert sent.sent_at


def test_a_second_attempt_stores_no_new_follow_up(ledger: Ledger) -> None:
    for attempt in ("ti_1", "ti_2"):
        store_success(ledger, attempt=attempt)
    assert len(follow_ups.load_pending_follow_ups(ledger)) == 1


def test_a_rejected_follow_up_is_not_pending_and_reported_once(ledger: Ledger) -> None:
    event_id = store_success(ledger)
    (pending,) = follow_ups.load_pending_follow_ups(ledger)
    report = PendingReport("m" * 36, event_id, "run_a", "report.fatal", "{}")
    for _ in range(2):
        follow_ups.mark_rejected(ledger, pending, "no such type", [report])
    assert follow_ups.load_pending_follow_ups(ledger) == []
    assert count_pending_reports(ledger) == 1
    assert follow_ups.list_follow_ups(ledger, event_id)[0].error == "no such type"


def test_an_unsendable_follow_up_is_stored_and_not_pending(ledger: Ledger) -> None:
    event_id = store_success(ledger, error="type: expected a string")
    assert follow_ups.load_pending_follow_ups(ledger) == []
    assert follow_ups.list_follow_ups(ledger, event_id)[0].error == "type: expected a string"


def test_a_chain_is_found_from_each_of_its_events(ledger: Ledger) -> None:
    root = store_success(ledger)
    event_ids = [root]
    for position, name in enumerate(("b", "c")):
        follows = build_causation({"type": "a"}, "run_a", 0, "p", None)
        payload = {"type": name, "event_id": name, "follows": follows}
        raised = FollowUpEvent(root, "p", position + 1, payload)
        ledger.write(lambda connection: follow_ups.insert_follow_ups(connection, [raised]))  # noqa: B023
        (event,) = accept_events(
            ledger, [NewEvent(event_key(name, name), name, "g", payload, "api")], f"run_{name}"
        )
        event_ids.append(event.id)
    store_success(ledger, "no_role")
    for event_id in event_ids:
        assert [related.id for related in overview.list_related_events(ledger, event_id)] == event_ids
