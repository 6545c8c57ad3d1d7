"""Follow-up events of a success."""

from __future__ import annotations

from typing import Any

import pytest

from event_hooks.events.models import EventBatch, build_causation
from event_hooks.exceptions import EventInvalid
from event_hooks.follow_ups.build import build_follow_ups
from event_hooks.ledger.records import FollowUpEvent

CAUSE = {"type": "new_genebuild", "genome": "homo_sapiens", "event_id": "1", "genebuild": "2026-10"}


def build(
    result: Any = None, emits: tuple[str, ...] = (), cause: dict[str, Any] = CAUSE
) -> list[FollowUpEvent]:
    return build_follow_ups(cause, "run", 3, 42, "dump", result, emits)


def test_an_emitted_event_inherits_the_fields_of_its_cause() -> None:
    forced = {**CAUSE, "force": True, "reason": "new software", "comment": "é"}
    (event,) = build(emits=("new_xrefs",), cause=forced)
    assert (event.event_id, event.process, event.position, event.error) == (42, "dump", 0, None)
    assert {name: value for name, value in event.payload.items() if name != "event_id"} == {
        "type": "new_xrefs",
        "genome": "homo_sapiens",
        "genebuild": "2026-10",
        "comment": "é",
        "follows": {
            "correlation_id": "run/3",
            "causation_id": "run/3/dump",
            "hops": 1,
            "chain": ["new_genebuild", "dump"],
        },
    }


def test_returned_events_come_after_emitted_events() -> None:
    returned = [{"type": "a"}, {"type": "b", "genome": "mus_musculus"}]
    events = build({"events": returned, "files": 3}, ("new_xrefs",))
    assert [event.payload["type"] for event in events] == ["new_xrefs", "a", "b"]
    assert [event.payload["genome"] for event in events] == ["homo_sapiens", "homo_sapiens", "mus_musculus"]


def test_only_the_same_success_builds_the_same_event_ids() -> None:
    first, repeated = build(emits=("a", "b")), build(emits=("a", "b"))
    assert [event.payload for event in first] == [event.payload for event in repeated]
    other = build_follow_ups(CAUSE, "run", 4, 43, "dump", None, ("a", "b"))
    ids = [event.payload["event_id"] for event in first + other]
    assert len(set(ids)) == 4


def test_a_chain_grows_and_keeps_its_correlation_id() -> None:
    (first,) = build(emits=("a",))
    (second,) = build(emits=("b",), cause=first.payload)
    follows = second.payload["follows"]
    assert (follows["correlation_id"], follows["hops"]) == ("run/3", 2)
    assert follows["chain"] == ["new_genebuild", "dump", "a", "dump"]


def test_an_event_after_ten_hops_is_rejected_with_its_chain() -> None:
    cause: dict[str, Any] = CAUSE
    for _ in range(10):
        (event,) = build(emits=("a",), cause=cause)
        assert event.error is None
        cause = dict(event.payload)
    (event,) = build(emits=("a",), cause=cause)
    assert event.error
    assert event.error.startswith(
        "event.follows.hops: expected at most 10, not 11: new_genebuild → dump → a → dump"
    )


@pytest.mark.parametrize(
    ("returned", "error"),
    [
        ([5], "events[0]: expected an object with the event's fields, not 5"),
        (
            [{"type": "a"}, {"genome": "g"}],
            "events[1].type: expected a string that is not empty, but it is missing",
        ),
        ({"type": 7}, "events[0].type: expected a string that is not empty, not 7"),
        ("new_xrefs", "events[0]: expected an object with the event's fields, not 'new_xrefs'"),
        (
            [{"type": "a", "joined": {"process": "p", "missing": [], "events": []}}],
            "events[0].joined: expected no such field: only event hooks set it",
        ),
    ],
)
def test_an_invalid_returned_event_has_an_error(returned: Any, error: str) -> None:
    assert [event.error for event in build({"events": returned}) if event.error] == [error]


@pytest.mark.parametrize("result", [None, "text", 5, [], {}, {"events": None}, {"events": []}])
def test_a_result_without_events_returns_no_follow_ups(result: Any) -> None:
    assert build(result) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"force": True}, "reason: expected a reason, which is required with force"),
        ({"force": True, "reason": " "}, "reason: expected a reason, which is required with force"),
        ({"force": "yes"}, "force: expected true, false or null, not 'yes'"),
        ({"follows": {}}, "follows.correlation_id: "),
        ({"follows": {**build_causation(CAUSE, "r", 0, "p", None), "hops": 0}}, "follows.hops: "),
        (
            {"follows": {**build_causation(CAUSE, "r", 0, "p", None), "hops": 11}},
            "follows.hops: expected at most 10, not 11: ",
        ),
    ],
)
def test_invalid_internal_fields_are_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EventInvalid) as caught:
        EventBatch.from_conf({**CAUSE, **changes})
    assert str(caught.value).startswith(message)


def test_a_payload_keeps_its_causation() -> None:
    follows = build_causation(CAUSE, "r", 0, "p", None)
    (event,) = EventBatch.from_conf({**CAUSE, "follows": follows}).events
    assert event.payload() == {**CAUSE, "follows": follows}
