"""Migrations, and the errors of unusable ledgers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from event_hooks.exceptions import LedgerNotMigrated, LedgerUnreachable
from event_hooks.ledger import database, schema, tables
from event_hooks.ledger.__main__ import main
from event_hooks.ledger.database import Ledger
from tests.integration.ledger.databases import migrated_ledger


@pytest.fixture
def empty_server(ledger_server: str, empty_database: Callable[[str], str]) -> str:
    """The kind of a server with a database without tables, at the connection ``event_ledger``."""
    empty_database(ledger_server)
    return ledger_server


@pytest.mark.usefixtures("empty_server")
def test_the_migrations_create_the_tables_of_the_code() -> None:
    engine = database.build_engine()
    schema.migrate(engine, database.CONN_ID)
    schema.migrate(engine, database.CONN_ID)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": schema.VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, tables.metadata) == []
        assert len(tables.metadata.tables) == 11
    engine.dispose()


@pytest.mark.usefixtures("empty_server")
def test_the_error_of_a_database_without_tables_names_the_migrate_command() -> None:
    with pytest.raises(
        LedgerNotMigrated,
        match="version none, and asset_events is needed: run python -m event_hooks.ledger",
    ):
        Ledger()


@pytest.mark.usefixtures("empty_server")
def test_tables_of_another_version_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    migrated_ledger().close()
    with database.build_engine().begin() as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(LedgerNotMigrated, match="version 9999"):
        Ledger()
    assert main(["migrate"]) == 1
    assert "cannot be migrated: Can't locate revision identified by '9999'" in capsys.readouterr().err


def test_the_command_migrates_checks_and_prunes(
    empty_database: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    empty_database("postgresql")
    assert main(["check"]) == 1
    assert "python -m event_hooks.ledger migrate" in capsys.readouterr().err
    assert main(["migrate"]) == 0
    assert main(["check"]) == 0
    capsys.readouterr()
    assert main(["prune"]) == 0
    assert capsys.readouterr().out == "0 events older than 400 days deleted\n"


def test_the_command_exits_with_1_if_the_ledger_cannot_be_used(empty_database: Callable[[str], str]) -> None:
    empty_database("sqlite")
    command = [sys.executable, "-m", "event_hooks.ledger", "check"]
    environment = {**os.environ, "PYTHONPATH": "plugins"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (1, "")
    assert "python -m event_hooks.ledger migrate" in process.stderr


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("postgres://someone:secret_of_the_ledger@127.0.0.1:1/ledger", "is unavailable"),
        ("mysql://someone:secret_of_the_ledger@127.0.0.1:1/ledger", "is unavailable"),
        ("sqlite://%2Fno%2Fsuch%2Ffolder%2Fledger", "is unavailable"),
        ("http://127.0.0.1:1", "rejected the request"),
    ],
)
def test_the_error_of_an_unreachable_ledger_has_no_password(
    uri: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_EVENT_LEDGER", uri)
    with pytest.raises(LedgerUnreachable, match=f"ledger 'event_ledger' {problem}: ") as caught:
        Ledger()
    assert "secret_of_the_ledger" not in str(caught.value)


def test_the_error_of_a_missing_connection_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_EVENT_LEDGER", raising=False)
    with pytest.raises(LedgerUnreachable, match="Airflow has no connection of this name"):
        Ledger()


def test_a_process_has_a_limited_number_of_connections(
    empty_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__LEDGER_POOL_SIZE", "2")
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__LEDGER_TIMEOUT", "1")
    ledger = migrated_ledger()
    expected = "all 2 connections of this process are in use: increase .event_hooks. ledger_pool_size"
    with ledger.transaction(), ledger.transaction(), pytest.raises(LedgerUnreachable, match=expected):
        ledger.read(text("SELECT 1"))
    assert [row[0] for row in ledger.read(text("SELECT 1"))] == [1], empty_server
    ledger.close()
