"""Migrations, and ledgers that cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from event_hooks.exceptions import LedgerBehind, LedgerUnreachable
from event_hooks.ledger import database, tables
from event_hooks.ledger.ledger import Ledger


def test_the_migrations_make_the_tables_of_the_code(server: str) -> None:
    engine = database.engine()
    database.migrate(engine)
    database.migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": database.VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, tables.metadata) == []
        assert len(tables.metadata.tables) == 7
    engine.dispose()


def test_a_ledger_without_tables_is_refused_with_the_command_to_type(server: str) -> None:
    with pytest.raises(LedgerBehind, match="version none, and 0004 is needed: python -m event_hooks.ledger"):
        Ledger()


def test_a_ledger_of_a_later_version_is_refused(ledger: Ledger) -> None:
    with database.engine().begin() as connection:
        connection.execute(text(f"UPDATE {database.VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(LedgerBehind, match="version 9999"):
        Ledger()


def test_the_command_migrates_checks_and_prunes(empty_database: Callable[[str], str]) -> None:
    empty_database("postgresql")
    run = lambda verb: subprocess.run(  # noqa: E731
        [sys.executable, "-m", "event_hooks.ledger", verb],
        env={**os.environ, "PYTHONPATH": "plugins"},
        capture_output=True,
        text=True,
        check=False,
    )
    behind = run("check")
    assert (behind.returncode, "python -m event_hooks.ledger migrate" in behind.stderr) == (1, True)
    assert run("migrate").returncode == 0
    assert run("check").returncode == 0
    assert run("prune").stdout == "0 events older than 400 days forgotten\n"


@pytest.mark.parametrize(
    "uri",
    [
        "postgres://someone:secret_of_the_ledger@127.0.0.1:1/ledger",
        "mysql://someone:secret_of_the_ledger@127.0.0.1:1/ledger",
        "sqlite://%2Fno%2Fsuch%2Ffolder%2Fledger",
        "http://127.0.0.1:1",
    ],
)
def test_a_ledger_that_cannot_be_reached_says_so_without_its_password(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_EVENT_LEDGER", uri)
    with pytest.raises(LedgerUnreachable, match="ledger 'event_ledger' cannot be used: ") as caught:
        Ledger()
    assert "secret_of_the_ledger" not in str(caught.value)


def test_no_connection_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_EVENT_LEDGER", raising=False)
    with pytest.raises(LedgerUnreachable, match="Airflow has no connection of this name"):
        Ledger()
