"""The assignment of accepted events to runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from event_hooks.api import run_starter
from event_hooks.api.run_starter import RunStarter
from event_hooks.exceptions import LedgerRejected, LedgerUnreachable
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import close_run, load_run_events
from event_hooks.ledger.records import EventRequest, NewEvent, event_key

MAX_NAME_LENGTH = 250
"""Characters of a process name in the ledger."""


def build_request(name: str, process: str = "dump") -> tuple[EventRequest, str]:
    """Return a request of one event, and its user."""
    new_event = NewEvent(event_key("t", name), "t", None, {"type": "t", "event_id": name}, "test")
    return EventRequest([new_event], [[(process, "hive", "analysis")]]), "user"


@contextmanager
def open_run_starter(open_ledger: Callable[[], Ledger], started: list[str]) -> Iterator[RunStarter]:
    """Yield a starter that only records the ids of the started runs; close it at the end."""
    starter = RunStarter(open_ledger, lambda run_id, _ledger, _users: started.append(run_id))
    yield starter
    starter.close()


def test_an_event_joins_another_run_if_its_run_is_closed(ledger: Ledger, started: list[str]) -> None:
    with open_run_starter(lambda: ledger, started) as starter:
        ((first,),) = starter.accept([build_request("1")])  # type: ignore[misc]
        close_run(ledger, first.run_id)
        (second,), (third,) = starter.accept([build_request("2"), build_request("3")])  # type: ignore[misc]
    assert [stored.id for stored in load_run_events(ledger, first.run_id)] == [first.id]
    assert [(stored.id, stored.position) for stored in load_run_events(ledger, second.run_id)] == [
        (second.id, 0),
        (third.id, 1),
    ]
    assert started == [first.run_id, second.run_id]


def test_the_bytes_of_a_run_are_limited(
    ledger: Ledger, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request, _ = build_request("1")
    monkeypatch.setattr(run_starter, "MAX_RUN_BYTES", 2 * request.byte_count)
    with open_run_starter(lambda: ledger, started) as starter:
        results = starter.accept([build_request(name) for name in "12345"])
        runs = [stored.run_id for (stored,) in results]  # type: ignore[misc]
        assert [runs.count(run_id) for run_id in dict.fromkeys(runs)] == [2, 2, 1]
        ((longer,),) = starter.accept([build_request("much longer than a run may be")])  # type: ignore[misc]
    assert [stored.id for stored in load_run_events(ledger, longer.run_id)] == [longer.id]
    assert started == [*dict.fromkeys(runs), longer.run_id]


def test_an_error_in_one_run_is_no_error_of_other_runs(
    ledger: Ledger, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_starter, "MAX_EVENTS_PER_RUN", 1)
    rejected = build_request("2", "x" * (MAX_NAME_LENGTH + 1))
    with open_run_starter(lambda: ledger, started) as starter:
        results = starter.accept([build_request("1"), rejected, build_request("3")])
    (first,), error, (third,) = results  # type: ignore[misc]
    assert isinstance(error, LedgerRejected)
    assert [len(load_run_events(ledger, stored.run_id)) for stored in (first, third)] == [1, 1]


def test_an_unreachable_ledger_is_tried_once_per_batch(
    ledger: Ledger, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_starter, "MAX_EVENTS_PER_RUN", 1)
    attempts: list[str] = []

    def open_ledger() -> Ledger:
        """Return the ledger to the first request; the thread that starts runs is not counted."""
        attempts.append(threading.current_thread().name)
        if attempts.count("MainThread") > 1:
            raise LedgerUnreachable("event_ledger", "no answer")
        return ledger

    with open_run_starter(open_ledger, started) as starter:
        stored, *errors = starter.accept([build_request(name) for name in "1234"])
    assert isinstance(stored, list)
    assert [type(error) for error in errors] == [LedgerUnreachable] * 3
    assert attempts.count("MainThread") == 2
