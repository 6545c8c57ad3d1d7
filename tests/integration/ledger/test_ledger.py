"""The guarantees of the ledger, on real database servers."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, insert, select, text, update

from event_hooks.exceptions import LedgerRejected
from event_hooks.ledger import database
from event_hooks.ledger.clock import utc_now
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events, list_unplanned_events
from event_hooks.ledger.outcomes import start_attempt, store_outcomes
from event_hooks.ledger.processes import load_run_statuses, reopen_processes, store_jobs, store_plan
from event_hooks.ledger.progress import store_progress
from event_hooks.ledger.records import (
    NewEvent,
    PendingReport,
    ProcessOutcome,
    ProcessStatus,
    ProgressUpdate,
    event_key,
    run_event_key,
)
from event_hooks.ledger.reports import count_pending_reports, publish_pending, store_reports
from event_hooks.ledger.retention import prune_events
from event_hooks.ledger.tables import event, event_process, event_run


def build_events(*names: str) -> list[NewEvent]:
    return [
        NewEvent(
            event_key("new_assembly", name), "new_assembly", f"genome_{name}", {"n": name, "π": "é"}, "rest"
        )
        for name in names
    ]


def build_report(message_id: str, event_id: int, run_id: str = "run") -> PendingReport:
    return PendingReport(message_id, event_id, run_id, "report.info", '{"message": "é"}')


def plan_processes(*event_ids: int) -> list[ProcessStatus]:
    return [
        ProcessStatus(event_id, position, "dump", "hive", "event_dump")
        for position, event_id in enumerate(event_ids)
    ]


def publish_all(reports: Sequence[PendingReport]) -> Iterable[PendingReport]:
    return reports


def test_keys_distinguish_types_but_not_numbers_and_their_text() -> None:
    assert event_key("a", 42) == event_key("a", "42")
    assert (
        len({event_key("a", "b/c"), event_key("a/b", "c"), run_event_key("a", 1), event_key("A", "b/c")}) == 4
    )


def test_an_event_is_stored_once_and_found_again(ledger: Ledger) -> None:
    first = accept_events(ledger, build_events("1", "2"), "run")
    second = accept_events(ledger, build_events("2", "3", "1"), "other run")
    assert [event.is_new for event in first] == [True, True]
    assert [event.is_new for event in second] == [False, True, False]
    assert [second[0].id, second[2].id] == [first[1].id, first[0].id]
    assert first[0].payload == {"n": "1", "π": "é"}
    assert [event.run_id for event in second] == ["run", "other run", "run"]


def test_a_duplicate_in_one_call_is_one_event(ledger: Ledger) -> None:
    first, second = accept_events(ledger, build_events("1", "1"), "run")
    assert first == second
    assert len(list_unplanned_events(ledger, 10)) == 1


def test_concurrent_accepts_write_each_event_once(ledger: Ledger, ledger_server: str) -> None:
    names = [str(number) for number in range(50 if ledger_server == "sqlite" else 300)]
    barrier = threading.Barrier(6)

    def accept(number: int) -> list[bool]:
        barrier.wait()
        # The opposite order causes a deadlock, which is retried.
        ordered_names = names if number % 2 else names[::-1]
        return [event.is_new for event in accept_events(ledger, build_events(*ordered_names), "run")]

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(accept, range(6)))
    assert sum(map(sum, results)) == len(names)
    assert len(list_unplanned_events(ledger, 1000)) == len(names)


def lock_run(connection: Connection, run_id: str) -> None:
    connection.execute(select(event_run).where(event_run.c.run_id == run_id).with_for_update())


@pytest.mark.parametrize("ledger_server", ["mysql"], indirect=True)
def test_a_transaction_is_retried_after_many_deadlocks(ledger: Ledger) -> None:
    """The other transaction has changed a row, so MariaDB ends the one that has only locked rows."""
    tries, deadlocks = 0, 8
    engine, row = database.build_engine(), event_run.c
    ledger.write(lambda connection: connection.execute(insert(event_run), [{"run_id": "a"}, {"run_id": "b"}]))

    def lock_b_then_a(has_b: threading.Event) -> None:
        with engine.begin() as connection:
            connection.execute(update(event_run).where(row.run_id == "b").values(closed_at=utc_now()))
            has_b.set()
            lock_run(connection, "a")

    def lock_a_then_b(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        lock_run(connection, "a")
        if tries <= deadlocks:
            has_b = threading.Event()
            rivals.append(pool.submit(lock_b_then_a, has_b))
            has_b.wait()
        lock_run(connection, "b")

    rivals: list[Future[None]] = []
    with ThreadPoolExecutor(1) as pool:
        ledger.write(lock_a_then_b)
    assert tries == deadlocks + 1
    assert [rival.exception() for rival in rivals] == [None] * deadlocks
    engine.dispose()


def test_events_submitted_with_a_run_belong_to_it(ledger: Ledger) -> None:
    for _ in range(2):
        events = accept_events(ledger, build_events("1", "2"), run_id="native")
    assert [(event.run_id, event.position) for event in events] == [("native", 0), ("native", 1)]


def load_states(ledger: Ledger) -> list[tuple[object, ...]]:
    columns = event_process.c
    selected = (columns.job_id, columns.done, columns.total, columns.state, columns.error, columns.result)
    with database.build_engine().connect() as connection:
        return [tuple(row) for row in connection.execute(select(*selected).order_by(columns.job_id))]


def test_a_job_is_recorded_from_submission_to_outcome(ledger: Ledger) -> None:
    first_id, second_id = (event.id for event in accept_events(ledger, build_events("1", "2"), "run"))
    for _ in range(2):
        store_plan(ledger, "run", plan_processes(first_id, second_id))
        store_jobs(ledger, {(first_id, "dump"): 11, (second_id, "dump"): 12}, [build_report("m1", first_id)])
        store_progress(ledger, "dump", [ProgressUpdate(first_id, 3, 10, 1, "half way")])
        failed = ProcessOutcome(second_id, "failed", None, "no disk")
        store_outcomes(ledger, "dump", [failed], "try1", [build_report("m2", second_id)])
    store_progress(ledger, "dump", [ProgressUpdate(second_id, 1, 1, 0)])  # late progress
    assert load_states(ledger) == [
        (11, 3, 10, "submitted", None, None),
        (12, None, None, "failed", "no disk", "null"),
    ]
    assert [status.is_finished for status in load_run_statuses(ledger, "run")] == [False, True]
    assert count_pending_reports(ledger) == 2
    reopen_processes(ledger, "dump", [first_id, second_id])
    assert [status.is_finished for status in load_run_statuses(ledger, "run")] == [False, False]
    start_attempt(ledger, "dump", [first_id, second_id], "try2")
    store_outcomes(
        ledger,
        "dump",
        [ProcessOutcome(second_id, "complete", {"files": 2})],
        "try2",
        [build_report("m3", second_id)],
    )
    assert load_states(ledger)[1] == (12, None, None, "complete", None, '{"files": 2}')
    assert count_pending_reports(ledger, "run") == 3


def test_only_the_attempt_that_was_started_last_stores_one_outcome(ledger: Ledger) -> None:
    """The ids of attempts do not sort by time if the clocks of two machines differ."""
    (event_id,) = (event.id for event in accept_events(ledger, build_events("1"), "run"))
    store_plan(ledger, "run", plan_processes(event_id))
    store_jobs(ledger, {(event_id, "dump"): 11})
    start_attempt(ledger, "dump", [event_id], "b")
    for attempt, outcome, message_id in (
        ("", "unknown", "m0"),
        ("b", "failed", "m1"),
        ("b", "complete", "m2"),
        ("a", "complete", "m3"),
    ):
        store_outcomes(
            ledger, "dump", [ProcessOutcome(event_id, outcome)], attempt, [build_report(message_id, event_id)]
        )
    reopen_processes(ledger, "dump", [event_id])
    start_attempt(ledger, "dump", [event_id], "a")
    for attempt, message_id in (("b", "m5"), ("a", "m4")):
        outcome = ProcessOutcome(event_id, "complete")
        store_outcomes(ledger, "dump", [outcome], attempt, [build_report(message_id, event_id)])
    assert [(status.state, status.attempt) for status in load_run_statuses(ledger, "run")] == [
        ("complete", "a")
    ]
    published: list[PendingReport] = []
    publish_pending(ledger, lambda pending: published.extend(pending) or pending)
    assert [status.message_id for status in published] == ["m1", "m4"]


def test_a_process_that_was_not_submitted_can_be_submitted_later(ledger: Ledger) -> None:
    (event_id,) = (event.id for event in accept_events(ledger, build_events("1"), "run"))
    store_plan(ledger, "run", plan_processes(event_id))
    store_outcomes(ledger, "dump", [ProcessOutcome(event_id, "not_submitted", None, "no analysis")], "", [])
    assert [status.is_finished for status in load_run_statuses(ledger, "run")] == [True]
    store_jobs(ledger, {(event_id, "dump"): 11})
    assert [(status.state, status.job_id) for status in load_run_statuses(ledger, "run")] == [
        ("submitted", 11)
    ]


def test_unplanned_events_are_listed_whatever_their_run(ledger: Ledger) -> None:
    first, second = (accept_events(ledger, build_events(name), f"run {name}")[0] for name in "12")
    assert [event.id for event in list_unplanned_events(ledger, 10)] == [first.id, second.id]
    assert [event.id for event in list_unplanned_events(ledger, 1)] == [first.id]
    assert list_unplanned_events(ledger, 10, timedelta(minutes=1)) == []
    store_plan(ledger, "run 1", plan_processes(first.id))
    assert [event.id for event in list_unplanned_events(ledger, 10)] == [second.id]


def test_an_outcome_is_not_stored_without_its_report(ledger: Ledger) -> None:
    (event_id,) = (event.id for event in accept_events(ledger, build_events("1"), "run"))
    store_plan(ledger, "run", plan_processes(event_id))
    store_jobs(ledger, {(event_id, "dump"): 11})
    invalid_report = PendingReport(None, event_id, "run", "report.info", "{}")  # type: ignore[arg-type]
    with pytest.raises(LedgerRejected):
        store_outcomes(ledger, "dump", [ProcessOutcome(event_id, "complete")], "try1", [invalid_report])
    assert load_states(ledger)[0][3] == "submitted"
    assert count_pending_reports(ledger) == 0


def test_text_that_databases_reject_is_replaced_and_stored(ledger: Ledger) -> None:
    invalid_text = "a\0b\ud83d"
    (stored,) = accept_events(
        ledger,
        [NewEvent(event_key("t", 1), invalid_text, invalid_text, {"odd": invalid_text}, "rest")],
        "run",
    )
    assert stored.payload == {"odd": invalid_text}
    store_plan(ledger, "run", plan_processes(stored.id))
    store_jobs(ledger, {(stored.id, "dump"): 11})
    store_progress(ledger, "dump", [ProgressUpdate(stored.id, 1, 2, 0, invalid_text)])
    store_outcomes(
        ledger, "dump", [ProcessOutcome(stored.id, "failed", {"odd": invalid_text}, invalid_text)], "try1", []
    )
    assert [status.error for status in load_run_statuses(ledger, "run")] == ["a\N{REPLACEMENT CHARACTER}b?"]


def test_reports_are_sent_in_order_and_once(ledger: Ledger) -> None:
    first_id, second_id = (event.id for event in accept_events(ledger, build_events("1", "2"), "run"))
    reports = [
        build_report(f"m{number}", (first_id, second_id)[number % 2], f"run{number % 2}")
        for number in range(5)
    ]
    for _ in range(2):
        store_reports(ledger, reports)
    published: list[str] = []

    def publish(pending: Sequence[PendingReport]) -> Iterable[PendingReport]:
        for report in pending:
            published.append(report.message_id)
            yield report

    assert publish_pending(ledger, publish, limit=2) == 2
    assert publish_pending(ledger, publish, run_id="run1") == 1
    assert publish_pending(ledger, publish) == 2
    assert publish_pending(ledger, publish) == 0
    assert published == ["m0", "m1", "m3", "m2", "m4"]


def test_reports_sent_before_a_fault_are_not_pending(ledger: Ledger) -> None:
    (event_id,) = (event.id for event in accept_events(ledger, build_events("1"), "run"))
    store_reports(ledger, [build_report("m1", event_id), build_report("m2", event_id)])

    def publish(pending: Sequence[PendingReport]) -> Iterable[PendingReport]:
        yield pending[0]
        raise ConnectionError("the broker is gone")

    with pytest.raises(ConnectionError):
        publish_pending(ledger, publish)
    assert count_pending_reports(ledger) == 1
    assert publish_pending(ledger, publish_all) == 1


@pytest.mark.parametrize("ledger_server", ["postgresql", "mysql"], indirect=True)  # SQLite locks no rows
def test_concurrent_senders_send_each_report_once(ledger: Ledger) -> None:
    (event_id,) = (event.id for event in accept_events(ledger, build_events("1"), "run"))
    store_reports(ledger, [build_report(f"m{number}", event_id) for number in range(40)])
    barrier = threading.Barrier(4)
    published: list[str] = []

    def publish(pending: Sequence[PendingReport]) -> Iterable[PendingReport]:
        for report in pending:
            published.append(report.message_id)
            yield report

    def send(_: int) -> None:
        barrier.wait()
        while publish_pending(ledger, publish, limit=7):
            pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))
    remaining = count_pending_reports(ledger)  # A sender skips the reports that another sender has locked.
    assert published == [f"m{number}" for number in range(40 - remaining)]
    assert publish_pending(ledger, publish) == remaining
    assert published == [f"m{number}" for number in range(40)]


def test_old_events_are_pruned_unless_reports_are_pending(ledger: Ledger) -> None:
    event_ids = [
        stored.id for stored in accept_events(ledger, build_events("done", "pending", "young"), "run")
    ]
    store_plan(ledger, "run", plan_processes(*event_ids[:2]))
    store_reports(ledger, [build_report("m0", event_ids[0])])
    publish_pending(ledger, publish_all)
    store_reports(ledger, [build_report("m1", event_ids[1])])
    old = datetime.now(UTC) - timedelta(days=500)
    with database.build_engine().begin() as connection:
        connection.execute(update(event).where(event.c.id != event_ids[2]).values(received_at=old))
    assert prune_events(ledger, timedelta(days=400), batch_size=1) == 1
    with database.build_engine().connect() as connection:
        assert set(connection.execute(select(event.c.id)).scalars()) == set(event_ids[1:])
        assert [row[0] for row in connection.execute(text("SELECT event_id FROM event_process"))] == [
            event_ids[1]
        ]
