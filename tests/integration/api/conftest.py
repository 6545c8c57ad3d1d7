"""The API's app on a real ledger and real hives; who may do what is tested in tests/system."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.security import get_user
from fastapi import FastAPI
from fastapi.testclient import TestClient

from event_hooks.api import access
from event_hooks.api.app import create_app
from event_hooks.ledger import database
from event_hooks.ledger.ledger import Ledger
from tests.integration.conftest import PracticeHive
from tests.integration.ledger.conftest import empty_database

__all__ = ["empty_database"]


@pytest.fixture
def ledger(empty_database: Callable[[str], str]) -> Iterator[Ledger]:
    """A new ledger on PostgreSQL."""
    empty_database("postgresql")
    engine = database.engine()
    database.migrate(engine)
    engine.dispose()
    ledger = Ledger()
    yield ledger
    ledger.close()


@pytest.fixture
def first(make_hive: Callable[..., PracticeHive]) -> PracticeHive:
    """The hive of both processes of new_assembly."""
    return make_hive(analyses=("event_dump_dna", "event_dump_peptide"))


@pytest.fixture
def other(make_hive: Callable[..., PracticeHive]) -> PracticeHive:
    """The hive of dump_other."""
    return make_hive()


@pytest.fixture
def lookup_files(
    first: PracticeHive, other: PracticeHive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Path]:
    """Lookups with two hives, and an analysis that is in none."""
    processes = {
        "dump_dna": {"analysis": "event_dump_dna", "hive_conn_id": first.conn_id},
        "dump_peptide": {"analysis": "event_dump_peptide", "hive_conn_id": first.conn_id},
        "dump_other": {"analysis": "event_dump_dna", "hive_conn_id": other.conn_id},
        "dump_nothing": {"analysis": "nothing", "hive_conn_id": first.conn_id},
    }
    events = {
        "new_assembly": ["dump_dna", "dump_peptide"],
        "new_genebuild": ["dump_peptide", "dump_other"],
        "half_wrong": ["dump_nothing", "dump_dna"],
        "nothing": [],
    }
    files = {"event_lookup": tmp_path / "events.json", "process_lookup": tmp_path / "processes.json"}
    for (name, file), content in zip(files.items(), (events, processes), strict=True):
        file.write_text(json.dumps(content))
        monkeypatch.setenv(f"AIRFLOW__EVENT_HOOKS__{name.upper()}", str(file))
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__KEPT_LOOKUPS", str(tmp_path / "kept"))
    return files


@pytest.fixture
def started() -> list[str]:
    """The ids of the runs that were started."""
    return []


@pytest.fixture
def app(ledger: Ledger, lookup_files: dict[str, Path], started: list[str]) -> FastAPI:
    """The app with everybody let in, and runs that are only noted."""
    app = create_app(lambda run_id, _ledger, _user: started.append(run_id))
    for check in access.CHECKS.values():
        app.dependency_overrides[check] = lambda: None
    app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="somebody", role="admin")
    return app


@pytest.fixture
def api(app: FastAPI) -> Iterator[TestClient]:
    """What speaks to it; what goes wrong inside is an answer, as it is for a caller."""
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
