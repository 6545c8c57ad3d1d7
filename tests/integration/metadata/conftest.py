"""A practice ensembl_metadata, and a ledger on PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine

from event_hooks import lookups
from event_hooks.ledger.ledger import Ledger
from event_hooks.lookups import Lookups
from tests.integration.ledger.databases import CONNECTION_VARIABLE, ledger_databases
from tests.support.practice_hive.database import parse
from tests.support.practice_metadata import EVENT_TABLES, PracticeMetadata


@pytest.fixture(scope="package")
def practice_metadata() -> Iterator[tuple[PracticeMetadata, str]]:
    """An ensembl_metadata, and its address for a user who may only read."""
    server, name = os.environ["MYSQL_URL"].rstrip("/"), f"metadata_{uuid4().hex[:16]}"
    with create_engine(parse(f"{server}/mysql")).begin() as root:
        root.exec_driver_sql(f"CREATE DATABASE {name}")
        root.exec_driver_sql(f"CREATE USER {name}@'%%' IDENTIFIED BY '{name}'")
        root.exec_driver_sql(f"GRANT SELECT ON {name}.* TO {name}@'%%'")
    metadata = PracticeMetadata(f"{server}/{name}")
    metadata.create()
    yield metadata, f"mysql://{name}:{name}@{server.rpartition('@')[2]}/{name}"
    metadata.close()
    with create_engine(parse(f"{server}/mysql")).begin() as root:
        root.exec_driver_sql(f"DROP DATABASE {name}")
        root.exec_driver_sql(f"DROP USER {name}@'%%'")


@pytest.fixture
def metadata(
    practice_metadata: tuple[PracticeMetadata, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[PracticeMetadata]:
    """One without a genome or an event; ``ensembl_metadata`` leads to it as a user who may only read."""
    metadata, uri = practice_metadata
    monkeypatch.setenv("AIRFLOW_CONN_ENSEMBL_METADATA", uri)
    yield metadata
    _delete_rows(metadata)


def _delete_rows(metadata: PracticeMetadata) -> None:
    """Delete genomes, other subjects and events; unlike ``wipe``, without a slow TRUNCATE that resets ids."""
    with metadata.engine.begin() as connection:
        connection.exec_driver_sql("SET FOREIGN_KEY_CHECKS = 0")
        for name in (*EVENT_TABLES, *EVENT_TABLES.values(), "organism", "assembly"):
            connection.exec_driver_sql(f"DELETE FROM {name}")
        connection.exec_driver_sql("DELETE FROM data_release WHERE ensembl_version > 113")
        connection.exec_driver_sql("SET FOREIGN_KEY_CHECKS = 1")


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> Iterator[Ledger]:
    """A ledger on PostgreSQL without an event."""
    monkeypatch.setenv(CONNECTION_VARIABLE, ledger_databases(pytestconfig).empty("postgresql", Path()))
    ledger = Ledger()
    yield ledger
    ledger.close()


@pytest.fixture
def known() -> Lookups:
    """Our own lookups: new_assembly and new_genebuild."""
    return lookups.current()
