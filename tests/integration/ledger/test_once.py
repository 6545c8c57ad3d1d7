"""Processes that run once for the same values, on real database servers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from event_hooks.ledger import once
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events, accept_requests
from event_hooks.ledger.outcomes import store_outcomes
from event_hooks.ledger.processes import load_planned_processes, load_run_statuses, store_plan
from event_hooks.ledger.records import (
    EventRequest,
    NewEvent,
    OnceClaim,
    ProcessOutcome,
    ProcessState,
    ProcessStatus,
    StoredEvent,
    event_key,
)
from event_hooks.ledger.retention import prune_events

HUMAN = {"genome": "homo_sapiens", "genebuild": "2026-10"}


def build_event(name: str) -> NewEvent:
    return NewEvent(event_key("new_genebuild", name), "new_genebuild", "homo_sapiens", {"n": name}, "rest")


def accept_event(ledger: Ledger, name: str) -> StoredEvent:
    return accept_events(ledger, [build_event(name)], f"run_{name}")[0]


def plan_process(
    ledger: Ledger, event: StoredEvent, values: object = HUMAN, *, is_forced: bool = False
) -> bool:
    """Plan the process for an event, and return whether it runs."""
    assert event.run_id
    assert isinstance(values, dict)
    planned = [ProcessStatus(event.id, event.position, "dump", "hive", "analysis")]
    claims = {(event.id, "dump"): OnceClaim(values, is_forced)}
    return not store_plan(ledger, event.run_id, planned, claims)


def test_a_process_runs_once_for_the_same_values(ledger: Ledger) -> None:
    first, second, other = (accept_event(ledger, name) for name in "abc")
    assert [plan_process(ledger, first), plan_process(ledger, second)] == [True, False]
    assert plan_process(ledger, other, {**HUMAN, "genebuild": "2026-11"})
    assert second.run_id
    (status,) = load_run_statuses(ledger, second.run_id)
    assert status.state == ProcessState.SKIPPED
    assert status.error
    assert f'genome "homo_sapiens", genebuild "2026-10", and event {first.id} has claimed it' in status.error
    assert '"force": true' in status.error


def test_planning_again_has_the_same_result(ledger: Ledger) -> None:
    first, second = accept_event(ledger, "a"), accept_event(ledger, "b")
    assert [plan_process(ledger, event) for event in (first, second, first, second)] == [
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("state", "runs_again"),
    [
        (ProcessState.COMPLETE, False),
        (ProcessState.FAILED, True),
        (ProcessState.STOPPED, True),
        (ProcessState.NOT_SUBMITTED, True),
        (ProcessState.TIMED_OUT, True),
    ],
)
def test_failed_and_stopped_processes_release_their_claims(
    state: ProcessState, runs_again: bool, ledger: Ledger
) -> None:
    first = accept_event(ledger, "a")
    plan_process(ledger, first)
    store_outcomes(ledger, "dump", [ProcessOutcome(first.id, state)], "ti", ())
    assert plan_process(ledger, accept_event(ledger, "b")) == runs_again
    assert not plan_process(ledger, accept_event(ledger, "c"))


def test_a_forced_process_always_runs(ledger: Ledger) -> None:
    assert plan_process(ledger, accept_event(ledger, "a"))
    assert plan_process(ledger, accept_event(ledger, "b"), is_forced=True)
    assert not plan_process(ledger, accept_event(ledger, "c"))


def test_one_of_several_concurrent_claims_succeeds(ledger: Ledger) -> None:
    events = [accept_event(ledger, str(number)) for number in range(6)]
    barrier = threading.Barrier(len(events))

    def compete(event: StoredEvent) -> bool:
        barrier.wait()
        return plan_process(ledger, event)

    with ThreadPoolExecutor(len(events)) as pool:
        assert sum(pool.map(compete, events)) == 1


def test_events_of_the_api_are_claimed_when_they_are_accepted(ledger: Ledger) -> None:
    requests = [
        EventRequest(
            [build_event(name)], [[("dump", "hive", "analysis")]], {(0, "dump"): OnceClaim(HUMAN, False)}
        )
        for name in "ab"
    ]
    results, new_count = accept_requests(ledger, requests, "run", 0)
    assert new_count == 2
    states = [status.state for status in load_run_statuses(ledger, "run")]
    assert states == [ProcessState.PLANNED, ProcessState.SKIPPED]
    assert load_planned_processes(ledger, "run") == {0: ["dump"], 1: []}
    assert all(isinstance(result, list) for result in results)


def test_finding_holders_changes_nothing(ledger: Ledger) -> None:
    claims = {(0, "dump"): OnceClaim(HUMAN, False)}
    assert once.find_holders(ledger, claims) == {}
    first = accept_event(ledger, "a")
    plan_process(ledger, first)
    assert once.find_holders(ledger, claims) == {(0, "dump"): first.id}
    assert once.find_holders(ledger, {(0, "dump"): OnceClaim(HUMAN, True)}) == {}
    store_outcomes(ledger, "dump", [ProcessOutcome(first.id, ProcessState.FAILED)], "ti", ())
    assert once.find_holders(ledger, claims) == {}


@pytest.mark.parametrize(
    ("state", "runs_again"), [(ProcessState.COMPLETE, False), (ProcessState.FAILED, True)]
)
def test_a_claim_survives_the_pruning_of_its_event(
    state: ProcessState, runs_again: bool, ledger: Ledger
) -> None:
    first = accept_event(ledger, "a")
    plan_process(ledger, first)
    store_outcomes(ledger, "dump", [ProcessOutcome(first.id, state)], "ti", ())
    assert prune_events(ledger, timedelta(0)) == 1
    assert plan_process(ledger, accept_event(ledger, "b")) == runs_again
