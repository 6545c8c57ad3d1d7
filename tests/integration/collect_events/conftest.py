"""A practice ensembl_metadata, and a ledger on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from event_hooks.events import lookups
from event_hooks.events.lookups import Lookups
from tests.support.practice_metadata import PracticeMetadata, temporary_metadata


@pytest.fixture(scope="package")
def practice_metadata() -> Iterator[tuple[PracticeMetadata, str]]:
    """A practice ensembl_metadata, and its URI for a user with SELECT permission only."""
    with temporary_metadata() as metadata:
        yield metadata


@pytest.fixture
def metadata(
    practice_metadata: tuple[PracticeMetadata, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[PracticeMetadata]:
    """An ensembl_metadata without genomes and events, at the connection ``ensembl_metadata``."""
    metadata, uri = practice_metadata
    monkeypatch.setenv("AIRFLOW_CONN_ENSEMBL_METADATA", uri)
    yield metadata
    metadata.wipe()


@pytest.fixture
def event_lookups() -> Lookups:
    """The lookups of the project: new_assembly and new_genebuild."""
    return lookups.load_cached()
