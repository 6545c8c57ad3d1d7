"""A practice ensembl_metadata, and a ledger on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from event_hooks import lookups
from event_hooks.ledger.ledger import Ledger
from event_hooks.lookups import Lookups
from tests.integration.ledger.conftest import empty_ledger, kept_ledger_made
from tests.support.practice_metadata import PracticeMetadata


@pytest.fixture
def metadata(
    practice_metadata: tuple[PracticeMetadata, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[PracticeMetadata]:
    """One without a genome or an event; ``ensembl_metadata`` leads to it as a user who may only read."""
    made, uri = practice_metadata
    monkeypatch.setenv("AIRFLOW_CONN_ENSEMBL_METADATA", uri)
    yield made
    made.wipe()


@pytest.fixture(scope="package")
def kept_ledger() -> Iterator[Ledger]:
    """A ledger on PostgreSQL."""
    with kept_ledger_made() as ledger:
        yield ledger


@pytest.fixture
def ledger(kept_ledger: Ledger) -> Iterator[Ledger]:
    """A ledger without an event."""
    yield kept_ledger
    empty_ledger()


@pytest.fixture
def known() -> Lookups:
    """Our own lookups: new_assembly and new_genebuild."""
    return lookups.current()
