"""The events that follow from a success."""

from __future__ import annotations

from typing import Any

import pytest

from event_hooks.events.models import EventBatch, build_causation
from event_hooks.exceptions import EventInvalid
from event_hooks.follow_ups.build import build_follow_ups
from event_hooks.ledger.records import FollowUpEvent

CAUSE = {"type": "new_genebuild", "genome": "homo_sapiens", "event_id": "1", "genebuild": "2026-10"}


def made(
    result: Any = None, emits: tuple[str, ...] = (), cause: dict[str, Any] = CAUSE
) -> list[FollowUpEvent]:
    return build_follow_ups(cause, "run", 3, 42, "dump", result, emits)


def test_what_the_lookup_names_follows_with_the_subject_of_its_cause() -> None:
    forced = {**CAUSE, "force": True, "reason": "new software", "comment": "é"}
    (one,) = made(emits=("new_xrefs",), cause=forced)
    assert (one.event_id, one.process, one.position, one.error) == (42, "dump", 0, None)
    assert {name: value for name, value in one.payload.items() if name != "event_id"} == {
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


def test_what_a_job_returns_follows_after_it() -> None:
    returned = [{"type": "a"}, {"type": "b", "genome": "mus_musculus"}]
    events = made({"events": returned, "files": 3}, ("new_xrefs",))
    assert [one.payload["type"] for one in events] == ["new_xrefs", "a", "b"]
    assert [one.payload["genome"] for one in events] == ["homo_sapiens", "homo_sapiens", "mus_musculus"]


def test_the_same_success_makes_the_same_ids_and_no_other_does() -> None:
    first, again = made(emits=("a", "b")), made(emits=("a", "b"))
    assert [one.payload for one in first] == [one.payload for one in again]
    other = build_follow_ups(CAUSE, "run", 4, 43, "dump", None, ("a", "b"))
    ids = [one.payload["event_id"] for one in first + other]
    assert len(set(ids)) == 4


def test_a_chain_grows_and_keeps_its_root() -> None:
    (first,) = made(emits=("a",))
    (second,) = made(emits=("b",), cause=first.payload)
    follows = second.payload["follows"]
    assert (follows["correlation_id"], follows["hops"]) == ("run/3", 2)
    assert follows["chain"] == ["new_genebuild", "dump", "a", "dump"]


def test_after_ten_hops_it_is_refused_with_the_chain() -> None:
    cause: dict[str, Any] = CAUSE
    for _ in range(10):
        (one,) = made(emits=("a",), cause=cause)
        assert one.error is None
        cause = dict(one.payload)
    (one,) = made(emits=("a",), cause=cause)
    assert one.error
    assert one.error.startswith(
        "event.follows.hops: expected at most 10, not 11: new_genebuild → dump → a → dump"
    )


@pytest.mark.parametrize(
    ("returned", "error"),
    [
        ([5], "events[0]: expected an object with the event's fields, not 5"),
        (
            [{"type": "a"}, {"genome": "g"}],
            "events[1].type: expected a string that is not empty, not nothing",
        ),
        ({"type": 7}, "events[0].type: expected a string that is not empty, not 7"),
        ("new_xrefs", "events[0]: expected an object with the event's fields, not 'new_xrefs'"),
        (
            [{"type": "a", "joined": {"process": "p", "missing": [], "events": []}}],
            "events[0].joined: expected none: event hooks make it",
        ),
    ],
)
def test_what_is_no_event_is_kept_with_its_error(returned: Any, error: str) -> None:
    assert [one.error for one in made({"events": returned}) if one.error] == [error]


@pytest.mark.parametrize("result", [None, "text", 5, [], {}, {"events": None}, {"events": []}])
def test_most_results_have_no_events(result: Any) -> None:
    assert made(result) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"force": True}, "reason: expected a text that says why, beside force"),
        ({"force": True, "reason": " "}, "reason: expected a text that says why, beside force"),
        ({"force": "yes"}, "force: expected true, false or null, not 'yes'"),
        ({"follows": {}}, "follows.correlation_id: "),
        ({"follows": {**build_causation(CAUSE, "r", 0, "p"), "hops": 0}}, "follows.hops: "),
        (
            {"follows": {**build_causation(CAUSE, "r", 0, "p"), "hops": 11}},
            "follows.hops: expected at most 10, not 11: ",
        ),
    ],
)
def test_what_an_event_says_of_itself_is_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EventInvalid) as caught:
        EventBatch.from_conf({**CAUSE, **changes})
    assert str(caught.value).startswith(message)


def test_an_event_keeps_what_it_follows_from() -> None:
    follows = build_causation(CAUSE, "r", 0, "p")
    (event,) = EventBatch.from_conf({**CAUSE, "follows": follows}).events
    assert event.payload() == {**CAUSE, "follows": follows}
