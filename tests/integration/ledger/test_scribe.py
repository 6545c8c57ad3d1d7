"""Who writes into the ledger for all triggers of an event loop."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from event_hooks.exceptions import LedgerRefused
from event_hooks.ledger import database
from event_hooks.ledger.ledger import Ledger
from event_hooks.ledger.records import OwedReport
from event_hooks.scribe import scribe_of_loop
from tests.integration.ledger.test_sender import heard

SECONDS = 20

pytestmark = pytest.mark.parametrize("server", ["postgresql", "mysql"], indirect=True)


def owed(name: str) -> list[OwedReport]:
    return [OwedReport(name, None, "run", "report.info", "{}")]


async def test_deeds_are_done_in_their_order_and_their_reports_sent(ledger: Ledger, queue: str) -> None:
    scribe, names = scribe_of_loop(), [f"m{n}" for n in range(20)]
    assert scribe is scribe_of_loop()
    deeds = [scribe.write(lambda to, name=name: to.owe(owed(name))) for name in names]
    await asyncio.wait_for(asyncio.gather(*deeds), SECONDS)
    said: list[str] = []
    for _ in range(SECONDS * 10):
        said += heard(queue)
        if said == names:
            break
        await asyncio.sleep(0.1)
    assert said == names
    assert ledger.count_owed() == 0


async def test_a_deed_that_cannot_be_done_holds_up_no_other(ledger: Ledger, queue: str) -> None:
    scribe = scribe_of_loop()

    def wrong(_: Ledger) -> None:
        raise KeyError("a fault of ours")

    refused = OwedReport(None, None, "run", "report.info", "{}")  # type: ignore[arg-type]
    first, second = scribe.write(wrong), scribe.write(lambda to: to.owe([refused]))
    third = scribe.write(lambda to: to.owe(owed("m1")))
    await asyncio.wait_for(third, SECONDS)
    assert isinstance(first.exception(), KeyError)
    assert isinstance(second.exception(), LedgerRefused)


async def test_what_comes_while_the_ledger_is_away_is_written_later(ledger: Ledger, queue: str) -> None:
    scribe = scribe_of_loop()
    await asyncio.wait_for(scribe.write(lambda to: to.owe(owed("m0"))), SECONDS)
    with database.engine().begin() as connection:
        connection.execute(text("ALTER TABLE report RENAME TO report_away"))
    deed = scribe.write(lambda to: to.owe(owed("m1")))
    await asyncio.sleep(1.5)
    assert not deed.done()
    with database.engine().begin() as connection:
        connection.execute(text("ALTER TABLE report_away RENAME TO report"))
    await asyncio.wait_for(deed, SECONDS)
