"""A practice ensembl_metadata, and a ledger on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from event_hooks.events import lookups
from event_hooks.events.lookups import Lookups
from event_hooks.ledger.database import Ledger
from tests.integration.ledger.databases import CONNECTION_VARIABLE, ledger_databases
from tests.support.practice_metadata import PracticeMetadata, temporary_metadata


@pytest.fixture(scope="package")
def practice_metadata() -> Iterator[tuple[PracticeMetadata, str]]:
    """An ensembl_metadata, and its address for a user with SELECT only."""
    with temporary_metadata() as metadata:
        yield metadata


@pytest.fixture
def metadata(
    practice_metadata: tuple[PracticeMetadata, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[PracticeMetadata]:
    """One without a genome or an event; ``ensembl_metadata`` is the connection to it."""
    metadata, uri = practice_metadata
    monkeypatch.setenv("AIRFLOW_CONN_ENSEMBL_METADATA", uri)
    yield metadata
    metadata.wipe()


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
    return lookups.load_cached()
