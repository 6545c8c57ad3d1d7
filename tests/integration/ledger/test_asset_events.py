"""Pending asset events: one for each received event and each completed process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from event_hooks.ledger.asset_events import PendingAssetEvent, has_pending_asset_events, register_pending
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events
from event_hooks.ledger.outcomes import start_attempt, store_outcomes
from event_hooks.ledger.processes import reopen_processes, store_jobs, store_plan
from event_hooks.ledger.records import NewEvent, ProcessOutcome, ProcessState, ProcessStatus, event_key
from event_hooks.ledger.retention import prune_events

RUN_ID = "run"


def accept(ledger: Ledger, count: int) -> list[int]:
    """Accept events, and return their ids."""
    events = [
        NewEvent(event_key("new_assembly", str(number)), "new_assembly", "human", {"event_id": number}, "api")
        for number in range(count)
    ]
    return [event.id for event in accept_events(ledger, events, RUN_ID)]


def plan(ledger: Ledger, event_ids: Sequence[int]) -> None:
    """Plan the process `dump` of events."""
    statuses = [
        ProcessStatus(event_id, position, "dump", "hive", "analysis")
        for position, event_id in enumerate(event_ids)
    ]
    store_plan(ledger, RUN_ID, statuses)


def finish(ledger: Ledger, event_id: int, state: ProcessState, attempt: str = "try1") -> None:
    store_outcomes(ledger, "dump", [ProcessOutcome(event_id, state)], attempt, ())


def drain(ledger: Ledger) -> list[PendingAssetEvent]:
    """Return the pending asset events, as registered."""
    registered: list[PendingAssetEvent] = []
    register_pending(ledger, registered.extend, 1000)
    return registered


def test_a_received_event_has_one_asset_event_although_its_run_is_planned_again(ledger: Ledger) -> None:
    event_ids = accept(ledger, 2)
    for _ in range(2):
        plan(ledger, event_ids)
    first, second = drain(ledger)
    assert (first.event_id, first.type, first.genome, first.run_id) == (
        event_ids[0],
        "new_assembly",
        "human",
        RUN_ID,
    )
    assert (second.payload, second.process, second.job_id) == ({"event_id": 1}, None, None)
    assert timedelta(0) <= first.age < timedelta(minutes=1)
    plan(ledger, event_ids)
    assert not has_pending_asset_events(ledger)


def test_a_rejected_event_has_an_asset_event_when_it_is_no_longer_rejected(ledger: Ledger) -> None:
    event_ids = accept(ledger, 2)
    store_plan(ledger, RUN_ID, rejected={event_ids[1]: "the type is unknown"})
    assert [pending.event_id for pending in drain(ledger)] == event_ids[:1]
    store_plan(ledger, RUN_ID)
    assert [pending.event_id for pending in drain(ledger)] == event_ids[1:]


def test_a_complete_process_has_an_asset_event_although_another_event_of_its_run_failed(
    ledger: Ledger,
) -> None:
    event_ids = accept(ledger, 3)
    plan(ledger, event_ids)
    store_jobs(ledger, {(event_id, "dump"): 10 + event_id for event_id in event_ids})
    drain(ledger)
    for event_id, state in zip(event_ids, ("complete", "failed", "unknown"), strict=True):
        finish(ledger, event_id, ProcessState(state))
        finish(ledger, event_id, ProcessState.COMPLETE, "try2")
    (pending,) = drain(ledger)
    assert (pending.event_id, pending.process, pending.attempt) == (event_ids[0], "dump", "try1")
    assert (pending.hive, pending.job_id) == ("hive", 10 + event_ids[0])


def test_a_process_that_completes_again_has_a_second_asset_event(ledger: Ledger) -> None:
    """A user has reset its job in the hive, and cleared its wait."""
    (event_id,) = accept(ledger, 1)
    plan(ledger, [event_id])
    finish(ledger, event_id, ProcessState.COMPLETE)
    drain(ledger)
    start_attempt(ledger, "dump", [event_id], "try2")
    finish(ledger, event_id, ProcessState.COMPLETE, "try2")
    assert drain(ledger) == []
    reopen_processes(ledger, "dump", [event_id])
    start_attempt(ledger, "dump", [event_id], "try2")
    finish(ledger, event_id, ProcessState.COMPLETE, "try2")
    assert [pending.attempt for pending in drain(ledger)] == ["try2"]


def test_without_the_setting_there_are_no_asset_events(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__ASSET_EVENTS", "no")
    event_ids = accept(ledger, 1)
    plan(ledger, event_ids)
    finish(ledger, event_ids[0], ProcessState.COMPLETE)
    assert not has_pending_asset_events(ledger)


def test_an_error_leaves_asset_events_pending(ledger: Ledger) -> None:
    plan(ledger, accept(ledger, 2))

    def fail(pending: Sequence[PendingAssetEvent]) -> None:
        raise RuntimeError(len(pending))

    with pytest.raises(RuntimeError, match="2"):
        register_pending(ledger, fail, 1000)
    assert register_pending(ledger, lambda pending: None, 1) == 1
    assert len(drain(ledger)) == 1


def test_pending_asset_events_are_pruned_with_their_event(ledger: Ledger) -> None:
    plan(ledger, accept(ledger, 2))
    assert prune_events(ledger, timedelta(seconds=-60)) == 2
    assert not has_pending_asset_events(ledger)


@pytest.mark.parametrize("ledger_server", ["postgresql", "mysql"], indirect=True)  # SQLite locks no rows
def test_concurrent_processes_register_different_asset_events(ledger: Ledger) -> None:
    event_ids = accept(ledger, 20)
    plan(ledger, event_ids)
    barrier = threading.Barrier(2, timeout=10)
    registered: list[int] = []

    def register(pending: Sequence[PendingAssetEvent]) -> None:
        barrier.wait()  # both transactions are open
        registered.extend(event.event_id for event in pending)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: register_pending(ledger, register, 10), range(2))) == [10, 10]
    assert sorted(registered) == sorted(event_ids)
