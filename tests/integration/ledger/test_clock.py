"""Times in the ledger are of the database server's clock, whatever the clock of the client."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from event_hooks.ledger.clock import load_time, read_time
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events, list_unplanned_events
from event_hooks.ledger.records import NewEvent, event_key


def test_the_time_is_utc_with_microseconds(ledger: Ledger) -> None:
    with ledger.transaction() as connection:
        first, second = read_time(connection), read_time(connection)
    assert first.tzinfo == UTC
    assert timedelta(0) <= second - first < timedelta(seconds=5)
    assert abs(load_time(ledger) - datetime.now(UTC)) < timedelta(seconds=5)


def test_an_event_of_a_client_with_another_clock_is_not_old(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SlowClock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.now(UTC) - timedelta(minutes=1)

    with monkeypatch.context() as patch:
        patch.setattr("event_hooks.ledger.events.datetime", SlowClock, raising=False)
        accept_events(ledger, [NewEvent(event_key("t", "1"), "t", "g", {"type": "t"}, "test")], "run")
    assert list_unplanned_events(ledger, 10, timedelta(seconds=30)) == []
    assert len(list_unplanned_events(ledger, 10)) == 1
