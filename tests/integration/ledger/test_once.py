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
from event_hooks.ledger.processes import load_run_statuses, reopen_processes, store_plan
from event_hooks.ledger.records import (
    EventRequest,
    NewEvent,
    OnceClaim,
    PendingReport,
    ProcessOutcome,
    ProcessState,
    ProcessStatus,
    StoredEvent,
    event_key,
)
from event_hooks.ledger.retention import prune_events

HUMAN = {"genome": "homo_sapiens", "genebuild": "2026-10"}


def build_event(name: str, *, is_forced: bool = False) -> NewEvent:
    payload = {"n": name, "force": is_forced}
    return NewEvent(event_key("new_genebuild", name), "new_genebuild", "homo_sapiens", payload, "rest")


def accept_event(ledger: Ledger, name: str, *, is_forced: bool = False) -> StoredEvent:
    return accept_events(ledger, [build_event(name, is_forced=is_forced)], f"run_{name}")[0]


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


def finish_process(
    ledger: Ledger, name: str, state: ProcessState, *, is_forced: bool = False, is_prunable: bool = True
) -> StoredEvent:
    """Accept an event, and plan and finish its process."""
    event = accept_event(ledger, name, is_forced=is_forced)
    assert plan_process(ledger, event, is_forced=is_forced)
    report = PendingReport(name * 36, event.id, f"run_{name}", "report.info", "{}")
    store_outcomes(ledger, "dump", [ProcessOutcome(event.id, state)], "try1", () if is_prunable else [report])
    return event


def load_status(ledger: Ledger, event: StoredEvent) -> ProcessStatus:
    assert event.run_id
    (status,) = load_run_statuses(ledger, event.run_id)
    return status


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_failed_process_that_another_event_claimed_is_not_reopened(
    is_finished: bool, ledger: Ledger
) -> None:
    failed, other = finish_process(ledger, "a", ProcessState.FAILED), accept_event(ledger, "b")
    assert plan_process(ledger, other)
    if is_finished:
        store_outcomes(ledger, "dump", [ProcessOutcome(other.id, ProcessState.COMPLETE)], "try1", ())
    for _ in range(2):
        assert reopen_processes(ledger, "dump", [failed.id]) == set()
    store_outcomes(ledger, "dump", [ProcessOutcome(failed.id, ProcessState.COMPLETE)], "try2", ())
    status = load_status(ledger, failed)
    assert status.state == ProcessState.SKIPPED
    assert status.error
    assert f'genebuild "2026-10", and event {other.id} has claimed it' in status.error


def test_a_failed_process_that_is_reopened_claims_again(ledger: Ledger) -> None:
    failed = finish_process(ledger, "a", ProcessState.FAILED)
    finish_process(ledger, "b", ProcessState.FAILED)
    for _ in range(2):
        assert reopen_processes(ledger, "dump", [failed.id]) == {failed.id}
    assert not plan_process(ledger, accept_event(ledger, "c"))


def test_one_of_several_failed_processes_with_the_same_values_is_reopened(ledger: Ledger) -> None:
    events = [finish_process(ledger, name, ProcessState.FAILED) for name in "abc"]
    reopened = reopen_processes(ledger, "dump", [event.id for event in events])
    assert len(reopened) == 1
    assert reopen_processes(ledger, "dump", [event.id for event in events]) == reopened


def test_a_forced_process_is_always_reopened(ledger: Ledger) -> None:
    forced = finish_process(ledger, "a", ProcessState.FAILED, is_forced=True)
    finish_process(ledger, "b", ProcessState.COMPLETE)
    assert reopen_processes(ledger, "dump", [forced.id]) == {forced.id}


def test_a_complete_process_is_reopened_without_a_claim(ledger: Ledger) -> None:
    complete = finish_process(ledger, "a", ProcessState.COMPLETE)
    finish_process(ledger, "b", ProcessState.COMPLETE, is_forced=True)
    assert reopen_processes(ledger, "dump", [complete.id]) == {complete.id}


def test_a_failed_process_is_not_reopened_after_the_holder_was_pruned(ledger: Ledger) -> None:
    failed = finish_process(ledger, "a", ProcessState.FAILED, is_prunable=False)
    finish_process(ledger, "b", ProcessState.COMPLETE)
    assert prune_events(ledger, timedelta(0)) == 1
    assert reopen_processes(ledger, "dump", [failed.id]) == set()
    assert "it has run for an event that was deleted since" in (load_status(ledger, failed).error or "")


def test_a_claim_that_was_pruned_with_its_failed_holder_is_claimed_again(ledger: Ledger) -> None:
    first, second = (finish_process(ledger, name, ProcessState.FAILED, is_prunable=False) for name in "ab")
    finish_process(ledger, "c", ProcessState.FAILED)
    assert prune_events(ledger, timedelta(0)) == 1
    assert reopen_processes(ledger, "dump", [first.id]) == {first.id}
    assert reopen_processes(ledger, "dump", [second.id]) == set()
    error = load_status(ledger, second).error
    assert error
    assert error.startswith(f"dump runs once for the same values, and event {first.id} has claimed it")


@pytest.mark.parametrize(
    ("is_claimed", "state"), [(True, ProcessState.SKIPPED), (False, ProcessState.PLANNED)]
)
def test_a_process_without_a_job_claims_again_before_it_is_submitted(
    is_claimed: bool, state: ProcessState, ledger: Ledger
) -> None:
    unsubmitted = finish_process(ledger, "a", ProcessState.NOT_SUBMITTED)
    if is_claimed:
        finish_process(ledger, "b", ProcessState.COMPLETE)
    reopen_processes(ledger, "dump", [unsubmitted.id], ProcessState.PLANNED)
    assert load_status(ledger, unsubmitted).state == state
    assert not plan_process(ledger, accept_event(ledger, "c"))


def test_a_reopened_process_and_new_events_compete_for_one_claim(ledger: Ledger) -> None:
    failed = finish_process(ledger, "0", ProcessState.FAILED)
    events = [accept_event(ledger, str(number)) for number in range(1, 5)]
    barrier = threading.Barrier(len(events) + 1)

    def reopen() -> None:
        barrier.wait()
        reopen_processes(ledger, "dump", [failed.id])

    def compete(event: StoredEvent) -> bool:
        barrier.wait()
        return plan_process(ledger, event)

    with ThreadPoolExecutor(len(events) + 1) as pool:
        reopening = pool.submit(reopen)
        is_started = list(pool.map(compete, events))
        reopening.result()
    is_reopened = load_status(ledger, failed).state == ProcessState.SUBMITTED
    assert [is_reopened, *is_started].count(True) == 1
