"""Attacks on the ledger; docs/explanation/security.md lists them."""

from __future__ import annotations

import pytest

from event_hooks.ledger import joins, overview
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events, load_run_events
from event_hooks.ledger.processes import load_run_statuses, store_plan
from event_hooks.ledger.records import NewEvent, ProcessStatus, event_key
from event_hooks.ledger.views import EventFilter

SQL = "x'; DROP TABLE event; -- \" \\ %s :a %(b)s"


def test_a_value_that_looks_like_sql_is_bound(ledger: Ledger) -> None:
    payload = {"type": SQL, "genome": SQL, "event_id": SQL, SQL: SQL}
    (event,) = accept_events(ledger, [NewEvent(event_key(SQL, SQL), SQL, SQL, payload, "rest")], SQL)
    store_plan(ledger, SQL, [ProcessStatus(event.id, 0, SQL, SQL, SQL)])
    assert load_run_events(ledger, SQL)[0].payload == payload
    assert [status.process for status in load_run_statuses(ledger, SQL)] == [SQL]
    for event_filter in (EventFilter(type=SQL), EventFilter(genome=SQL), EventFilter(run_id=SQL)):
        assert [stored.id for stored in overview.list_events(ledger, event_filter)] == [event.id]
    assert joins.find_open_wait(ledger, SQL, SQL) is None


@pytest.mark.parametrize("pattern", ["%", "_", "x%", "\\"])
def test_a_wildcard_in_a_filter_is_a_plain_character(ledger: Ledger, pattern: str) -> None:
    accept_events(ledger, [NewEvent(event_key("a", "1"), "a", "xyz", {"type": "a"}, "rest")], "run")
    assert overview.list_events(ledger, EventFilter(genome=pattern)) == []
