"""A practice ensembl_metadata, and a ledger on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from event_hooks.collect_events.collect import collect_new_events
from event_hooks.collect_events.hook import MetadataHook
from event_hooks.collect_events.params import CollectParams
from event_hooks.collect_events.windows import overlap_start
from event_hooks.events import lookups
from event_hooks.events.lookups import Lookups
from event_hooks.ledger.database import Ledger
from tests.integration.collect_events.stored import WINDOW, Collect
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


@pytest.fixture
def collect(ledger: Ledger, event_lookups: Lookups) -> Collect:
    """A function that collects events as a run of the DAG does, without starting runs in Airflow."""

    def collect(params: CollectParams = WINDOW, run_id: str = "", **changes: Any) -> Any:
        params, collect_run_id = replace(params, **changes), run_id or uuid4().hex
        events = MetadataHook().list_events(overlap_start(params.start), params.end)
        return collect_new_events(ledger, events, params, event_lookups, collect_run_id, lambda run_id: None)

    return collect
