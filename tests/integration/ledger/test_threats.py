"""What somebody could try with the ledger; docs/threats.md lists it."""

from __future__ import annotations

import pytest

from event_hooks.ledger import joins, overview
from event_hooks.ledger.ledger import Ledger
from event_hooks.ledger.overview import Wanted
from event_hooks.ledger.records import Received, Standing, key_of

SQL = "x'; DROP TABLE event; -- \" \\ %s :a %(b)s"


def test_what_looks_like_sql_is_a_value(ledger: Ledger) -> None:
    payload = {"type": SQL, "genome": SQL, "event_id": SQL, SQL: SQL}
    (entry,) = ledger.accept([Received(key_of(SQL, SQL), SQL, SQL, payload, "rest")], SQL)
    ledger.plan(SQL, [Standing(entry.id, 0, SQL, SQL, SQL)])
    assert ledger.events_of(SQL)[0].payload == payload
    assert [one.process for one in ledger.standing(SQL)] == [SQL]
    for wanted in (Wanted(type=SQL), Wanted(genome=SQL), Wanted(run_id=SQL)):
        assert [one.id for one in overview.events(ledger, wanted)] == [entry.id]
    assert joins.find(ledger, SQL, SQL) is None


@pytest.mark.parametrize("pattern", ["%", "_", "x%", "\\"])
def test_a_wildcard_in_a_filter_is_a_letter(ledger: Ledger, pattern: str) -> None:
    ledger.accept([Received(key_of("a", "1"), "a", "xyz", {"type": "a"}, "rest")], "run")
    assert overview.events(ledger, Wanted(genome=pattern)) == []
