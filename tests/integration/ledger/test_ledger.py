"""What the ledger promises, on real servers."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text, update

from event_hooks.exceptions import LedgerRefused
from event_hooks.ledger import database
from event_hooks.ledger.ledger import Ledger
from event_hooks.ledger.records import Outcome, OwedReport, Progress, Received, Standing, key_in_run, key_of
from event_hooks.ledger.tables import event, event_process


def received(*names: str) -> list[Received]:
    return [
        Received(
            key_of("new_assembly", name), "new_assembly", f"genome_{name}", {"n": name, "π": "é"}, "rest"
        )
        for name in names
    ]


def a_report(message_id: str, event_id: int, run_id: str = "run") -> OwedReport:
    return OwedReport(message_id, event_id, run_id, "report.info", '{"message": "é"}')


def planned(*event_ids: int) -> list[Standing]:
    return [Standing(event_id, at, "dump", "hive", "event_dump") for at, event_id in enumerate(event_ids)]


def all_of(reports: Sequence[OwedReport]) -> Iterable[OwedReport]:
    return reports


def test_keys_tell_types_apart_and_not_numbers_from_their_text() -> None:
    assert key_of("a", 42) == key_of("a", "42")
    assert len({key_of("a", "b/c"), key_of("a/b", "c"), key_in_run("a", 1), key_of("A", "b/c")}) == 4


def test_an_event_is_written_once_and_found_again(ledger: Ledger) -> None:
    first = ledger.accept(received("1", "2"))
    again = ledger.accept(received("2", "3", "1"))
    assert [entry.is_new for entry in first] == [True, True]
    assert [entry.is_new for entry in again] == [False, True, False]
    assert [again[0].id, again[2].id] == [first[1].id, first[0].id]
    assert first[0].payload == {"n": "1", "π": "é"}
    assert [entry.payload["n"] for entry in ledger.without_run(2)] == ["1", "2"]
    assert ledger.without_run(10, timedelta(minutes=1)) == []


def test_one_event_twice_in_one_call_is_one_event(ledger: Ledger) -> None:
    one, same = ledger.accept(received("1", "1"))
    assert one == same
    assert len(ledger.without_run(10)) == 1


def test_many_who_accept_the_same_events_at_once_write_each_once(ledger: Ledger, server: str) -> None:
    names = [str(n) for n in range(50 if server == "sqlite" else 300)]
    begin = threading.Barrier(6)

    def accept(at: int) -> list[bool]:
        begin.wait()
        turned = names if at % 2 else names[::-1]  # the other way round: a deadlock, which is tried again
        return [entry.is_new for entry in ledger.accept(received(*turned))]

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(accept, range(6)))
    assert sum(map(sum, found)) == len(names)
    assert len(ledger.without_run(1000)) == len(names)


def test_a_run_keeps_its_events(ledger: Ledger) -> None:
    ids = [entry.id for entry in ledger.accept(received("1", "2", "3"))]
    assert [entry.id for entry in ledger.assign("run", [ids[2], ids[0]])] == [ids[2], ids[0]]
    assert [entry.id for entry in ledger.assign("other", ids)] == [ids[1]]
    assert [(entry.id, entry.position) for entry in ledger.assign("run", [ids[2], ids[0]])] == [
        (ids[2], 0),
        (ids[0], 1),
    ]
    assert ledger.without_run(10) == []


def test_events_that_a_run_brought_are_that_runs(ledger: Ledger) -> None:
    for _ in range(2):
        entries = ledger.accept(received("1", "2"), run_id="native")
    assert [(entry.run_id, entry.position) for entry in entries] == [("native", 0), ("native", 1)]


def state(ledger: Ledger) -> list[tuple[object, ...]]:
    columns = event_process.c
    wanted = (columns.job_id, columns.done, columns.total, columns.state, columns.error, columns.result)
    with database.engine().connect() as connection:
        return [tuple(row) for row in connection.execute(select(*wanted).order_by(columns.job_id))]


def test_a_job_from_its_submission_to_its_outcome_and_on(ledger: Ledger) -> None:
    one, two = (entry.id for entry in ledger.accept(received("1", "2"), "run"))
    for _ in range(2):
        ledger.plan("run", planned(one, two))
        ledger.record_jobs({(one, "dump"): 11, (two, "dump"): 12}, [a_report("m1", one)])
        ledger.record_progress("dump", [Progress(one, 3, 10, 1, "half way")])
        failed = Outcome(two, "failed", None, "no disk")
        ledger.record_outcomes("dump", [failed], "try1", [a_report("m2", two)])
    ledger.record_progress("dump", [Progress(two, 1, 1, 0)])  # late news
    assert state(ledger) == [
        (11, 3, 10, "submitted", None, None),
        (12, None, None, "failed", "no disk", "null"),
    ]
    assert [one.is_over for one in ledger.standing("run")] == [False, True]
    assert ledger.count_owed() == 2
    ledger.reopen("dump", [one, two])
    assert [one.is_over for one in ledger.standing("run")] == [False, False]
    ledger.record_outcomes("dump", [Outcome(two, "complete", {"files": 2})], "try2", [a_report("m3", two)])
    assert state(ledger)[1] == (12, None, None, "complete", None, '{"files": 2}')
    assert ledger.count_owed("run") == 3


def test_each_attempt_has_one_outcome_and_the_last_one_counts(ledger: Ledger) -> None:
    (one,) = (entry.id for entry in ledger.accept(received("1"), "run"))
    ledger.plan("run", planned(one))
    ledger.record_jobs({(one, "dump"): 11})
    for attempt, outcome, told in (
        ("b", "failed", "m1"),
        ("a", "complete", "m2"),  # comes late
        ("", "unknown", "m3"),
        ("c", "complete", "m4"),
    ):
        ledger.record_outcomes("dump", [Outcome(one, outcome)], attempt, [a_report(told, one)])
    assert [(each.state, each.attempt) for each in ledger.standing("run")] == [("complete", "c")]
    seen: list[OwedReport] = []
    ledger.send(lambda owed: seen.extend(owed) or owed)
    assert [each.message_id for each in seen] == ["m1", "m4"]


def test_a_process_that_could_not_be_submitted_can_be_later(ledger: Ledger) -> None:
    (one,) = (entry.id for entry in ledger.accept(received("1"), "run"))
    ledger.plan("run", planned(one))
    ledger.record_outcomes("dump", [Outcome(one, "not submitted", None, "no analysis")], "", [])
    assert [each.is_over for each in ledger.standing("run")] == [True]
    ledger.record_jobs({(one, "dump"): 11})
    assert [(each.state, each.job_id) for each in ledger.standing("run")] == [("submitted", 11)]


def test_events_of_a_run_that_was_never_started_are_found(ledger: Ledger) -> None:
    ids = [entry.id for entry in ledger.accept(received("1", "2", "3"))]
    ledger.assign("ledger__a", ids[:2])
    assert [entry.id for entry in ledger.without_run(10)] == ids[2:]
    assert [entry.id for entry in ledger.not_begun("ledger__", 10)] == ids[:2]
    assert ledger.not_begun("ledger__", 10, timedelta(minutes=1)) == []
    ledger.plan("ledger__a", planned(*ids[:2]))
    assert ledger.not_begun("ledger__", 10) == []


def test_an_outcome_is_not_written_without_its_report(ledger: Ledger) -> None:
    (one,) = (entry.id for entry in ledger.accept(received("1"), "run"))
    ledger.plan("run", planned(one))
    ledger.record_jobs({(one, "dump"): 11})
    nameless = OwedReport(None, one, "run", "report.info", "{}")  # type: ignore[arg-type]
    with pytest.raises(LedgerRefused):
        ledger.record_outcomes("dump", [Outcome(one, "complete")], "try1", [nameless])
    assert state(ledger)[0][3] == "submitted"
    assert ledger.count_owed() == 0


def test_text_that_no_database_takes_is_written_all_the_same(ledger: Ledger) -> None:
    odd = "a\0b\ud83d"
    (one,) = ledger.accept([Received(key_of("t", 1), odd, odd, {"odd": odd}, "rest")], "run")
    assert one.payload == {"odd": odd}
    ledger.plan("run", planned(one.id))
    ledger.record_jobs({(one.id, "dump"): 11})
    ledger.record_progress("dump", [Progress(one.id, 1, 2, 0, odd)])
    ledger.record_outcomes("dump", [Outcome(one.id, "failed", {"odd": odd}, odd)], "try1", [])
    assert [each.error for each in ledger.standing("run")] == ["a\N{REPLACEMENT CHARACTER}b?"]


def test_reports_are_sent_in_their_order_and_once(ledger: Ledger) -> None:
    one, two = (entry.id for entry in ledger.accept(received("1", "2"), "run"))
    reports = [a_report(f"m{n}", (one, two)[n % 2], f"run{n % 2}") for n in range(5)]
    for _ in range(2):
        ledger.owe(reports)
    seen: list[str] = []

    def publish(owed: Sequence[OwedReport]) -> Iterable[OwedReport]:
        for each in owed:
            seen.append(each.message_id)
            yield each

    assert ledger.send(publish, limit=2) == 2
    assert ledger.send(publish, run_id="run1") == 1
    assert ledger.send(publish) == 2
    assert ledger.send(publish) == 0
    assert seen == ["m0", "m1", "m3", "m2", "m4"]


def test_what_was_sent_before_a_fault_is_not_owed_any_more(ledger: Ledger) -> None:
    (one,) = (entry.id for entry in ledger.accept(received("1"), "run"))
    ledger.owe([a_report("m1", one), a_report("m2", one)])

    def publish(owed: Sequence[OwedReport]) -> Iterable[OwedReport]:
        yield owed[0]
        raise ConnectionError("the broker is gone")

    with pytest.raises(ConnectionError):
        ledger.send(publish)
    assert ledger.count_owed() == 1
    assert ledger.send(all_of) == 1


@pytest.mark.parametrize("server", ["postgresql", "mysql"], indirect=True)  # SQLite locks no rows
def test_two_who_send_at_once_send_each_report_once(ledger: Ledger) -> None:
    (one,) = (entry.id for entry in ledger.accept(received("1"), "run"))
    ledger.owe([a_report(f"m{n}", one) for n in range(40)])
    begin = threading.Barrier(4)
    seen: list[str] = []

    def publish(owed: Sequence[OwedReport]) -> Iterable[OwedReport]:
        for each in owed:
            seen.append(each.message_id)
            yield each

    def send(_: int) -> None:
        begin.wait()
        while ledger.send(publish, limit=7):
            pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))
    rest = ledger.count_owed()  # who finds another one sending leaves it to that one
    assert seen == [f"m{n}" for n in range(40 - rest)]
    assert ledger.send(publish) == rest
    assert seen == [f"m{n}" for n in range(40)]


def test_what_is_old_is_forgotten_but_nothing_that_is_owed(ledger: Ledger) -> None:
    ids = [entry.id for entry in ledger.accept(received("done", "owed", "young"), "run")]
    ids += [entry.id for entry in ledger.accept(received("not started"))]
    ledger.plan("run", planned(*ids[:2]))
    ledger.owe([a_report("m0", ids[0])])
    ledger.send(all_of)
    ledger.owe([a_report("m1", ids[1])])
    old = datetime.now(UTC) - timedelta(days=500)
    with database.engine().begin() as connection:
        connection.execute(update(event).where(event.c.id != ids[2]).values(received_at=old))
    assert ledger.prune(timedelta(days=400), step=1) == 1
    with database.engine().connect() as connection:
        assert set(connection.execute(select(event.c.id)).scalars()) == set(ids[1:])
        assert [row[0] for row in connection.execute(text("SELECT event_id FROM event_process"))] == [ids[1]]
