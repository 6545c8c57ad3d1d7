"""Each test that uses ``ledger`` runs on each kind of database server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.ledger.databases import new_databases


@pytest.fixture
def empty_database(sqlite_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """A function that creates a database without tables for ``event_ledger``, and returns its URI."""
    with new_databases(sqlite_folder, monkeypatch) as create:
        yield create


@pytest.fixture(params=["postgresql", "mysql", "sqlite"])
def ledger_server(request: pytest.FixtureRequest) -> str:
    """The kind of the database server."""
    return str(request.param)
