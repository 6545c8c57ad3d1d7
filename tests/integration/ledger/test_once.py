"""What is done once for the same values, on real servers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from event_hooks.ledger import once
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events, accept_requests
from event_hooks.ledger.processes import (
    load_planned_processes,
    load_run_statuses,
    store_outcomes,
    store_plan,
)
from event_hooks.ledger.records import (
    EventRequest,
    NewEvent,
    OnceClaim,
    ProcessOutcome,
    ProcessStatus,
    State,
    StoredEvent,
    event_key,
)
from event_hooks.ledger.retention import prune_events

HUMAN = {"genome": "homo_sapiens", "genebuild": "2026-10"}


def received(name: str) -> NewEvent:
    return NewEvent(event_key("new_genebuild", name), "new_genebuild", "homo_sapiens", {"n": name}, "rest")


def accept(ledger: Ledger, name: str) -> StoredEvent:
    return accept_events(ledger, [received(name)], f"run_{name}")[0]


def plan(ledger: Ledger, entry: StoredEvent, values: object = HUMAN, *, is_forced: bool = False) -> bool:
    """Plan the process for an event; tell whether it is done for it."""
    assert entry.run_id
    assert isinstance(values, dict)
    planned = [ProcessStatus(entry.id, entry.position, "dump", "hive", "analysis")]
    claims = {(entry.id, "dump"): OnceClaim(values, is_forced)}
    return not store_plan(ledger, entry.run_id, planned, claims)


def test_the_same_values_are_done_once(ledger: Ledger) -> None:
    first, second, other = (accept(ledger, name) for name in "abc")
    assert [plan(ledger, first), plan(ledger, second)] == [True, False]
    assert plan(ledger, other, {**HUMAN, "genebuild": "2026-11"})
    assert second.run_id
    (standing,) = load_run_statuses(ledger, second.run_id)
    assert standing.state == State.SKIPPED
    assert standing.error
    assert f'genome "homo_sapiens", genebuild "2026-10", and event {first.id} has it' in standing.error
    assert '"force": true' in standing.error


def test_planning_again_gives_the_same(ledger: Ledger) -> None:
    first, second = accept(ledger, "a"), accept(ledger, "b")
    assert [plan(ledger, one) for one in (first, second, first, second)] == [True, False, True, False]


@pytest.mark.parametrize(
    ("state", "is_done_again"),
    [
        (State.COMPLETE, False),
        (State.FAILED, True),
        (State.STOPPED, True),
        (State.NOT_SUBMITTED, True),
        (State.TIMED_OUT, True),
    ],
)
def test_who_failed_or_was_stopped_does_not_count(state: State, is_done_again: bool, ledger: Ledger) -> None:
    first = accept(ledger, "a")
    plan(ledger, first)
    store_outcomes(ledger, "dump", [ProcessOutcome(first.id, state)], "ti", ())
    assert plan(ledger, accept(ledger, "b")) == is_done_again
    assert not plan(ledger, accept(ledger, "c"))


def test_who_is_forced_is_done_in_any_case(ledger: Ledger) -> None:
    assert plan(ledger, accept(ledger, "a"))
    assert plan(ledger, accept(ledger, "b"), is_forced=True)
    assert not plan(ledger, accept(ledger, "c"))


def test_of_many_at_once_one_has_it(ledger: Ledger) -> None:
    entries = [accept(ledger, str(n)) for n in range(6)]
    begin = threading.Barrier(len(entries))

    def compete(entry: StoredEvent) -> bool:
        begin.wait()
        return plan(ledger, entry)

    with ThreadPoolExecutor(len(entries)) as pool:
        assert sum(pool.map(compete, entries)) == 1


def test_what_comes_in_over_the_api_is_decided_with_it(ledger: Ledger) -> None:
    arrivals = [
        EventRequest(
            [received(name)], [[("dump", "hive", "analysis")]], {(0, "dump"): OnceClaim(HUMAN, False)}
        )
        for name in "ab"
    ]
    answers, new = accept_requests(ledger, arrivals, "run", 0)
    assert new == 2
    states = [one.state for one in load_run_statuses(ledger, "run")]
    assert states == [State.PLANNED, State.SKIPPED]
    assert load_planned_processes(ledger, "run") == {0: ["dump"], 1: []}
    assert all(isinstance(answer, list) for answer in answers)


def test_asking_who_has_it_changes_nothing(ledger: Ledger) -> None:
    wanted = {(0, "dump"): OnceClaim(HUMAN, False)}
    assert once.holders(ledger, wanted) == {}
    first = accept(ledger, "a")
    plan(ledger, first)
    assert once.holders(ledger, wanted) == {(0, "dump"): first.id}
    assert once.holders(ledger, {(0, "dump"): OnceClaim(HUMAN, True)}) == {}
    store_outcomes(ledger, "dump", [ProcessOutcome(first.id, State.FAILED)], "ti", ())
    assert once.holders(ledger, wanted) == {}


@pytest.mark.parametrize(("state", "is_done_again"), [(State.COMPLETE, False), (State.FAILED, True)])
def test_what_was_done_is_known_after_its_event_is_forgotten(
    state: State, is_done_again: bool, ledger: Ledger
) -> None:
    first = accept(ledger, "a")
    plan(ledger, first)
    store_outcomes(ledger, "dump", [ProcessOutcome(first.id, state)], "ti", ())
    assert prune_events(ledger, timedelta(0)) == 1
    assert plan(ledger, accept(ledger, "b")) == is_done_again
