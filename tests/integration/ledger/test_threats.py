"""What somebody could try with the ledger; docs/threats.md lists it."""

from __future__ import annotations

import pytest

from event_hooks.ledger import joins, overview
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events, load_run_events
from event_hooks.ledger.overview import Wanted
from event_hooks.ledger.processes import load_run_statuses, store_plan
from event_hooks.ledger.records import NewEvent, ProcessStatus, event_key

SQL = "x'; DROP TABLE event; -- \" \\ %s :a %(b)s"


def test_what_looks_like_sql_is_a_value(ledger: Ledger) -> None:
    payload = {"type": SQL, "genome": SQL, "event_id": SQL, SQL: SQL}
    (entry,) = accept_events(ledger, [NewEvent(event_key(SQL, SQL), SQL, SQL, payload, "rest")], SQL)
    store_plan(ledger, SQL, [ProcessStatus(entry.id, 0, SQL, SQL, SQL)])
    assert load_run_events(ledger, SQL)[0].payload == payload
    assert [one.process for one in load_run_statuses(ledger, SQL)] == [SQL]
    for wanted in (Wanted(type=SQL), Wanted(genome=SQL), Wanted(run_id=SQL)):
        assert [one.id for one in overview.events(ledger, wanted)] == [entry.id]
    assert joins.find(ledger, SQL, SQL) is None


@pytest.mark.parametrize("pattern", ["%", "_", "x%", "\\"])
def test_a_wildcard_in_a_filter_is_a_letter(ledger: Ledger, pattern: str) -> None:
    accept_events(ledger, [NewEvent(event_key("a", "1"), "a", "xyz", {"type": "a"}, "rest")], "run")
    assert overview.events(ledger, Wanted(genome=pattern)) == []
