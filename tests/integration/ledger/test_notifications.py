"""Notifications: stored once with their fact, claimed by one sender, and retried."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from event_hooks.ledger import notifications
from event_hooks.ledger.clock import load_time
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events
from event_hooks.ledger.lateness import store_late
from event_hooks.ledger.notifications import (
    CLAIM_TIME,
    RETRY_DELAY,
    MessageKey,
    claim_message,
    list_messages,
    list_messages_of_run,
    mark_failed,
    mark_sent,
)
from event_hooks.ledger.outcomes import start_attempt, store_outcomes
from event_hooks.ledger.overview import MAINTENANCE_AGE, has_pending_work, needs_maintenance
from event_hooks.ledger.processes import reject_events, reopen_processes, store_jobs, store_plan
from event_hooks.ledger.progress import store_stalls
from event_hooks.ledger.records import NewEvent, PendingReport, ProcessOutcome, ProcessState, event_key
from event_hooks.ledger.retention import prune_events
from event_hooks.ledger.tables import event, notification
from tests.integration.ledger.test_ledger import plan_processes

FAILED = MessageKey(0, "dump", "failed")

pytestmark = [pytest.mark.parametrize("ledger_server", ["postgresql", "mysql", "sqlite"], indirect=True)]


def plan_run(ledger: Ledger, run_id: str, *genomes: str) -> list[int]:
    """Store events of a run with the process ``dump`` and a job, and return their ids."""
    new = [
        NewEvent(event_key("t", genome), "t", genome, {"type": "t", "genome": genome}, "rest")
        for genome in genomes
    ]
    ids = [accepted.id for accepted in accept_events(ledger, new, run_id)]
    store_plan(ledger, run_id, plan_processes(*ids))
    store_jobs(ledger, {(event_id, "dump"): event_id for event_id in ids})
    return ids


def fail(
    ledger: Ledger, event_ids: list[int], attempt: str = "try1", notifiers: tuple[int, ...] = (0,)
) -> None:
    """Store that the process of events has failed."""
    outcomes = [ProcessOutcome(event_id, ProcessState.FAILED, error="no disk") for event_id in event_ids]
    store_outcomes(ledger, "dump", outcomes, attempt, (), notifiers=notifiers)


def list_rows(ledger: Ledger) -> list[tuple[int, str, str, int]]:
    columns = notification.c
    statement = select(columns.event_id, columns.process, columns.kind, columns.notifier)
    return [tuple(row) for row in ledger.read(statement.order_by(columns.id))]


def make_older(ledger: Ledger, age: timedelta) -> None:
    """Move the times of all notifications into the past."""
    with ledger.transaction() as connection:
        for row in connection.execute(select(notification)).all():
            values = {"created_at": row.created_at - age, "retry_at": row.retry_at and row.retry_at - age}
            connection.execute(update(notification).where(notification.c.id == row.id).values(values))


def test_a_failure_is_notified_once_also_after_a_retry(ledger: Ledger) -> None:
    (event_id,) = plan_run(ledger, "run", "a")
    for attempt in ("try1", "try2"):
        start_attempt(ledger, "dump", [event_id], attempt)
        fail(ledger, [event_id], attempt)
        for key in list_messages(ledger):
            mark_sent(ledger, claim_message(ledger, key))
        assert reopen_processes(ledger, "dump", [event_id]) == {event_id}
    assert list_rows(ledger) == [(event_id, "dump", "failed", 0)]
    assert list_messages(ledger) == []


def test_each_kind_and_each_notifier_has_a_notification(ledger: Ledger) -> None:
    first, second = plan_run(ledger, "run", "a", "b")
    for _ in range(2):
        store_late(ledger, "run", "dump", lambda _: (), [1])
    for stalls in ({first: {"x": "no beekeeper"}}, {}, {first: {"x": "no beekeeper"}}):
        store_stalls(ledger, "dump", [first, second], stalls, lambda _: (), [0])
    fail(ledger, [first], notifiers=(1, 0))
    assert list_rows(ledger) == [
        (first, "dump", "late", 1),
        (second, "dump", "late", 1),
        (first, "dump", "stalled", 0),
        (first, "dump", "failed", 0),
        (first, "dump", "failed", 1),
    ]


def test_only_failures_that_are_stored_have_notifications(ledger: Ledger) -> None:
    complete, failed, other = plan_run(ledger, "run", "a", "b", "c")
    store_outcomes(
        ledger, "dump", [ProcessOutcome(complete, ProcessState.COMPLETE)], "try1", (), notifiers=[0]
    )
    fail(ledger, [failed], notifiers=())
    start_attempt(ledger, "dump", [other], "later")
    fail(ledger, [complete, failed, other])
    assert list_rows(ledger) == []


def test_a_notification_is_stored_with_its_fact_or_not_at_all(ledger: Ledger) -> None:
    (event_id,) = plan_run(ledger, "run", "a")

    def fail_to_build(_: object) -> list[PendingReport]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store_stalls(ledger, "dump", [event_id], {event_id: {"x": "y"}}, fail_to_build, [0])
    assert list_rows(ledger) == []


def test_a_rejected_event_has_one_notification_without_a_process(ledger: Ledger) -> None:
    new = [NewEvent(event_key("t", name), "t", name, {"type": "t"}, "rest") for name in ("a", "b")]
    first, second = (accepted.id for accepted in accept_events(ledger, new, "run"))
    store_plan(ledger, "run", rejected={first: "no such type"}, notifiers=[0])
    for _ in range(2):
        # The second event is planned, so it stays as it is.
        reject_events(ledger, "run", {first: "no such type", second: "no plan"}, (), [0])
    assert list_rows(ledger) == [(first, "", "failed", 0)]


def test_events_of_all_runs_are_in_one_message_that_one_sender_claims(ledger: Ledger) -> None:
    first = plan_run(ledger, "run", "a", "b")
    second = plan_run(ledger, "other run", "c")
    fail(ledger, first)
    fail(ledger, second)
    assert list_messages(ledger) == list_messages_of_run(ledger, "run") == [FAILED]
    assert list_messages_of_run(ledger, "no run") == []
    claim = claim_message(ledger, FAILED)
    assert list(claim.event_ids) == [*first, *second]
    assert claim_message(ledger, FAILED).ids == []
    assert list_messages(ledger) == []
    mark_sent(ledger, claim)
    make_older(ledger, CLAIM_TIME)
    assert list_messages(ledger) == []


def test_the_claim_of_a_sender_that_was_killed_ends(ledger: Ledger) -> None:
    fail(ledger, plan_run(ledger, "run", "a"))
    claim = claim_message(ledger, FAILED)
    make_older(ledger, CLAIM_TIME - timedelta(seconds=30))
    assert list_messages(ledger) == []
    make_older(ledger, timedelta(seconds=31))
    assert claim_message(ledger, FAILED) == claim


def test_a_failed_notification_is_retried_by_maintain_ledger_only(ledger: Ledger) -> None:
    fail(ledger, plan_run(ledger, "run", "a"))
    mark_failed(ledger, claim_message(ledger, FAILED), "refused \0")
    fail(ledger, plan_run(ledger, "other run", "b"), notifiers=(0, 1))
    assert list_messages_of_run(ledger, "other run") == [MessageKey(1, "dump", "failed")]
    assert len(claim_message(ledger, FAILED).ids) == 1
    make_older(ledger, max(RETRY_DELAY, CLAIM_TIME))
    claim = claim_message(ledger, FAILED)
    assert len(claim.ids) == 2
    mark_sent(ledger, claim)
    assert {row.error for row in ledger.read(select(notification.c.error))} == {None}
    fail(ledger, plan_run(ledger, "third run", "c"))
    assert list_messages_of_run(ledger, "third run") == [FAILED]


def test_pending_notifications_need_maintenance_until_they_are_sent(ledger: Ledger) -> None:
    fail(ledger, plan_run(ledger, "run", "a"))
    assert (has_pending_work(ledger), needs_maintenance(ledger)) == (True, False)
    make_older(ledger, MAINTENANCE_AGE)
    assert needs_maintenance(ledger)
    claim = claim_message(ledger, FAILED)
    mark_failed(ledger, claim, "refused")
    assert (has_pending_work(ledger), needs_maintenance(ledger)) == (False, False)
    make_older(ledger, RETRY_DELAY)
    assert needs_maintenance(ledger)
    mark_sent(ledger, claim)
    assert (has_pending_work(ledger), needs_maintenance(ledger)) == (False, False)


def test_a_message_has_a_maximum_of_events(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "MAX_EVENTS_PER_MESSAGE", 2)
    ids = sorted(plan_run(ledger, "run", "a", "b", "c"))
    fail(ledger, ids)
    assert [claim_message(ledger, FAILED).event_ids for _ in range(2)] == [ids[:2], ids[2:]]


def test_a_pruned_event_has_no_notification(ledger: Ledger) -> None:
    fail(ledger, plan_run(ledger, "run", "a"))
    old = load_time(ledger) - timedelta(days=500)
    with ledger.transaction() as connection:
        connection.execute(update(event).values(received_at=old))
    assert prune_events(ledger, timedelta(days=400)) == 1
    assert list_rows(ledger) == []
