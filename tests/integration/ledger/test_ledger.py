"""What the ledger promises, on real servers."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text, update

from event_hooks.exceptions import LedgerRejected
from event_hooks.ledger import database
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import (
    accept_events,
    assign_run,
    list_events_without_run,
    list_unplanned_events,
)
from event_hooks.ledger.processes import (
    load_run_statuses,
    reopen_processes,
    store_jobs,
    store_outcomes,
    store_plan,
    store_progress,
)
from event_hooks.ledger.records import (
    NewEvent,
    PendingReport,
    ProcessOutcome,
    ProcessStatus,
    Progress,
    event_key,
    run_event_key,
)
from event_hooks.ledger.reports import add_reports, count_pending_reports, publish_pending
from event_hooks.ledger.retention import prune_events
from event_hooks.ledger.tables import event, event_process


def received(*names: str) -> list[NewEvent]:
    return [
        NewEvent(
            event_key("new_assembly", name), "new_assembly", f"genome_{name}", {"n": name, "π": "é"}, "rest"
        )
        for name in names
    ]


def a_report(message_id: str, event_id: int, run_id: str = "run") -> PendingReport:
    return PendingReport(message_id, event_id, run_id, "report.info", '{"message": "é"}')


def planned(*event_ids: int) -> list[ProcessStatus]:
    return [
        ProcessStatus(event_id, at, "dump", "hive", "event_dump") for at, event_id in enumerate(event_ids)
    ]


def processes_for(reports: Sequence[PendingReport]) -> Iterable[PendingReport]:
    return reports


def test_keys_tell_types_apart_and_not_numbers_from_their_text() -> None:
    assert event_key("a", 42) == event_key("a", "42")
    assert (
        len({event_key("a", "b/c"), event_key("a/b", "c"), run_event_key("a", 1), event_key("A", "b/c")}) == 4
    )


def test_an_event_is_written_once_and_found_again(ledger: Ledger) -> None:
    first = accept_events(ledger, received("1", "2"))
    again = accept_events(ledger, received("2", "3", "1"))
    assert [entry.is_new for entry in first] == [True, True]
    assert [entry.is_new for entry in again] == [False, True, False]
    assert [again[0].id, again[2].id] == [first[1].id, first[0].id]
    assert first[0].payload == {"n": "1", "π": "é"}
    assert [entry.payload["n"] for entry in list_events_without_run(ledger, 2)] == ["1", "2"]
    assert list_events_without_run(ledger, 10, timedelta(minutes=1)) == []


def test_one_event_twice_in_one_call_is_one_event(ledger: Ledger) -> None:
    one, same = accept_events(ledger, received("1", "1"))
    assert one == same
    assert len(list_events_without_run(ledger, 10)) == 1


def test_many_who_accept_the_same_events_at_once_write_each_once(ledger: Ledger, server: str) -> None:
    names = [str(n) for n in range(50 if server == "sqlite" else 300)]
    begin = threading.Barrier(6)

    def accept(at: int) -> list[bool]:
        begin.wait()
        turned = names if at % 2 else names[::-1]  # the other way round: a deadlock, which is tried again
        return [entry.is_new for entry in accept_events(ledger, received(*turned))]

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(accept, range(6)))
    assert sum(map(sum, found)) == len(names)
    assert len(list_events_without_run(ledger, 1000)) == len(names)


def test_a_run_keeps_its_events(ledger: Ledger) -> None:
    ids = [entry.id for entry in accept_events(ledger, received("1", "2", "3"))]
    assert [entry.id for entry in assign_run(ledger, "run", [ids[2], ids[0]])] == [ids[2], ids[0]]
    assert [entry.id for entry in assign_run(ledger, "other", ids)] == [ids[1]]
    assert [(entry.id, entry.position) for entry in assign_run(ledger, "run", [ids[2], ids[0]])] == [
        (ids[2], 0),
        (ids[0], 1),
    ]
    assert list_events_without_run(ledger, 10) == []


def test_events_that_a_run_brought_are_that_runs(ledger: Ledger) -> None:
    for _ in range(2):
        entries = accept_events(ledger, received("1", "2"), run_id="native")
    assert [(entry.run_id, entry.position) for entry in entries] == [("native", 0), ("native", 1)]


def state(ledger: Ledger) -> list[tuple[object, ...]]:
    columns = event_process.c
    wanted = (columns.job_id, columns.done, columns.total, columns.state, columns.error, columns.result)
    with database.engine().connect() as connection:
        return [tuple(row) for row in connection.execute(select(*wanted).order_by(columns.job_id))]


def test_a_job_from_its_submission_to_its_outcome_and_on(ledger: Ledger) -> None:
    one, two = (entry.id for entry in accept_events(ledger, received("1", "2"), "run"))
    for _ in range(2):
        store_plan(ledger, "run", planned(one, two))
        store_jobs(ledger, {(one, "dump"): 11, (two, "dump"): 12}, [a_report("m1", one)])
        store_progress(ledger, "dump", [Progress(one, 3, 10, 1, "half way")])
        failed = ProcessOutcome(two, "failed", None, "no disk")
        store_outcomes(ledger, "dump", [failed], "try1", [a_report("m2", two)])
    store_progress(ledger, "dump", [Progress(two, 1, 1, 0)])  # late news
    assert state(ledger) == [
        (11, 3, 10, "submitted", None, None),
        (12, None, None, "failed", "no disk", "null"),
    ]
    assert [one.is_finished for one in load_run_statuses(ledger, "run")] == [False, True]
    assert count_pending_reports(ledger) == 2
    reopen_processes(ledger, "dump", [one, two])
    assert [one.is_finished for one in load_run_statuses(ledger, "run")] == [False, False]
    store_outcomes(
        ledger, "dump", [ProcessOutcome(two, "complete", {"files": 2})], "try2", [a_report("m3", two)]
    )
    assert state(ledger)[1] == (12, None, None, "complete", None, '{"files": 2}')
    assert count_pending_reports(ledger, "run") == 3


def test_each_attempt_has_one_outcome_and_the_last_one_counts(ledger: Ledger) -> None:
    (one,) = (entry.id for entry in accept_events(ledger, received("1"), "run"))
    store_plan(ledger, "run", planned(one))
    store_jobs(ledger, {(one, "dump"): 11})
    for attempt, outcome, told in (
        ("b", "failed", "m1"),
        ("a", "complete", "m2"),  # comes late
        ("", "unknown", "m3"),
        ("c", "complete", "m4"),
    ):
        store_outcomes(ledger, "dump", [ProcessOutcome(one, outcome)], attempt, [a_report(told, one)])
    assert [(each.state, each.attempt) for each in load_run_statuses(ledger, "run")] == [("complete", "c")]
    seen: list[PendingReport] = []
    publish_pending(ledger, lambda owed: seen.extend(owed) or owed)
    assert [each.message_id for each in seen] == ["m1", "m4"]


def test_a_process_that_could_not_be_submitted_can_be_later(ledger: Ledger) -> None:
    (one,) = (entry.id for entry in accept_events(ledger, received("1"), "run"))
    store_plan(ledger, "run", planned(one))
    store_outcomes(ledger, "dump", [ProcessOutcome(one, "not_submitted", None, "no analysis")], "", [])
    assert [each.is_finished for each in load_run_statuses(ledger, "run")] == [True]
    store_jobs(ledger, {(one, "dump"): 11})
    assert [(each.state, each.job_id) for each in load_run_statuses(ledger, "run")] == [("submitted", 11)]


def test_events_of_a_run_that_was_never_started_are_found(ledger: Ledger) -> None:
    ids = [entry.id for entry in accept_events(ledger, received("1", "2", "3"))]
    assign_run(ledger, "ledger__a", ids[:2])
    assert [entry.id for entry in list_events_without_run(ledger, 10)] == ids[2:]
    assert [entry.id for entry in list_unplanned_events(ledger, "ledger__", 10)] == ids[:2]
    assert list_unplanned_events(ledger, "ledger__", 10, timedelta(minutes=1)) == []
    store_plan(ledger, "ledger__a", planned(*ids[:2]))
    assert list_unplanned_events(ledger, "ledger__", 10) == []


def test_an_outcome_is_not_written_without_its_report(ledger: Ledger) -> None:
    (one,) = (entry.id for entry in accept_events(ledger, received("1"), "run"))
    store_plan(ledger, "run", planned(one))
    store_jobs(ledger, {(one, "dump"): 11})
    nameless = PendingReport(None, one, "run", "report.info", "{}")  # type: ignore[arg-type]
    with pytest.raises(LedgerRejected):
        store_outcomes(ledger, "dump", [ProcessOutcome(one, "complete")], "try1", [nameless])
    assert state(ledger)[0][3] == "submitted"
    assert count_pending_reports(ledger) == 0


def test_text_that_no_database_takes_is_written_all_the_same(ledger: Ledger) -> None:
    odd = "a\0b\ud83d"
    (one,) = accept_events(ledger, [NewEvent(event_key("t", 1), odd, odd, {"odd": odd}, "rest")], "run")
    assert one.payload == {"odd": odd}
    store_plan(ledger, "run", planned(one.id))
    store_jobs(ledger, {(one.id, "dump"): 11})
    store_progress(ledger, "dump", [Progress(one.id, 1, 2, 0, odd)])
    store_outcomes(ledger, "dump", [ProcessOutcome(one.id, "failed", {"odd": odd}, odd)], "try1", [])
    assert [each.error for each in load_run_statuses(ledger, "run")] == ["a\N{REPLACEMENT CHARACTER}b?"]


def test_reports_are_sent_in_their_order_and_once(ledger: Ledger) -> None:
    one, two = (entry.id for entry in accept_events(ledger, received("1", "2"), "run"))
    reports = [a_report(f"m{n}", (one, two)[n % 2], f"run{n % 2}") for n in range(5)]
    for _ in range(2):
        add_reports(ledger, reports)
    seen: list[str] = []

    def publish(owed: Sequence[PendingReport]) -> Iterable[PendingReport]:
        for each in owed:
            seen.append(each.message_id)
            yield each

    assert publish_pending(ledger, publish, limit=2) == 2
    assert publish_pending(ledger, publish, run_id="run1") == 1
    assert publish_pending(ledger, publish) == 2
    assert publish_pending(ledger, publish) == 0
    assert seen == ["m0", "m1", "m3", "m2", "m4"]


def test_what_was_sent_before_a_fault_is_not_owed_any_more(ledger: Ledger) -> None:
    (one,) = (entry.id for entry in accept_events(ledger, received("1"), "run"))
    add_reports(ledger, [a_report("m1", one), a_report("m2", one)])

    def publish(owed: Sequence[PendingReport]) -> Iterable[PendingReport]:
        yield owed[0]
        raise ConnectionError("the broker is gone")

    with pytest.raises(ConnectionError):
        publish_pending(ledger, publish)
    assert count_pending_reports(ledger) == 1
    assert publish_pending(ledger, processes_for) == 1


@pytest.mark.parametrize("server", ["postgresql", "mysql"], indirect=True)  # SQLite locks no rows
def test_two_who_send_at_once_send_each_report_once(ledger: Ledger) -> None:
    (one,) = (entry.id for entry in accept_events(ledger, received("1"), "run"))
    add_reports(ledger, [a_report(f"m{n}", one) for n in range(40)])
    begin = threading.Barrier(4)
    seen: list[str] = []

    def publish(owed: Sequence[PendingReport]) -> Iterable[PendingReport]:
        for each in owed:
            seen.append(each.message_id)
            yield each

    def send(_: int) -> None:
        begin.wait()
        while publish_pending(ledger, publish, limit=7):
            pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))
    rest = count_pending_reports(ledger)  # who finds another one sending leaves it to that one
    assert seen == [f"m{n}" for n in range(40 - rest)]
    assert publish_pending(ledger, publish) == rest
    assert seen == [f"m{n}" for n in range(40)]


def test_what_is_old_is_forgotten_but_nothing_that_is_owed(ledger: Ledger) -> None:
    ids = [entry.id for entry in accept_events(ledger, received("done", "owed", "young"), "run")]
    ids += [entry.id for entry in accept_events(ledger, received("not started"))]
    store_plan(ledger, "run", planned(*ids[:2]))
    add_reports(ledger, [a_report("m0", ids[0])])
    publish_pending(ledger, processes_for)
    add_reports(ledger, [a_report("m1", ids[1])])
    old = datetime.now(UTC) - timedelta(days=500)
    with database.engine().begin() as connection:
        connection.execute(update(event).where(event.c.id != ids[2]).values(received_at=old))
    assert prune_events(ledger, timedelta(days=400), step=1) == 1
    with database.engine().connect() as connection:
        assert set(connection.execute(select(event.c.id)).scalars()) == set(ids[1:])
        assert [row[0] for row in connection.execute(text("SELECT event_id FROM event_process"))] == [ids[1]]
