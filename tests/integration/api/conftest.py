"""The API's app on a real ledger and real hives; who may do what is tested in tests/system."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.security import get_user
from fastapi import FastAPI
from fastapi.testclient import TestClient

from event_hooks.api import security
from event_hooks.api.app import create_app
from event_hooks.ledger.database import Ledger
from tests.integration.hives import PracticeHive, hives_made
from tests.integration.ledger.databases import CONNECTION_VARIABLE, ledger_databases


@pytest.fixture(scope="package")
def patch() -> Iterator[pytest.MonkeyPatch]:
    """Sets what holds for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="package")
def kept_hives(mysql_url: str, patch: pytest.MonkeyPatch) -> Iterator[list[PracticeHive]]:
    """The hive of both processes of new_assembly, and another."""
    with hives_made(mysql_url, Path(), patch) as make:
        yield [make(analyses=("event_dump_dna", "event_dump_peptide")), make()]


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> Iterator[Ledger]:
    """A ledger on PostgreSQL without an event."""
    monkeypatch.setenv(CONNECTION_VARIABLE, ledger_databases(pytestconfig).empty("postgresql", Path()))
    ledger = Ledger()
    yield ledger
    ledger.close()


@pytest.fixture
def hives(kept_hives: list[PracticeHive]) -> Iterator[list[PracticeHive]]:
    """Two hives without a job."""
    yield kept_hives
    for hive in kept_hives:
        hive.wipe()


@pytest.fixture
def first(hives: list[PracticeHive]) -> PracticeHive:
    """The hive of both processes of new_assembly."""
    return hives[0]


@pytest.fixture
def other(hives: list[PracticeHive]) -> PracticeHive:
    """The hive of dump_other."""
    return hives[1]


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
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__LOOKUP_CACHE_DIR", str(tmp_path / "kept"))
    return files


@pytest.fixture
def started() -> list[str]:
    """The ids of the runs that were started."""
    return []


@pytest.fixture
def app(ledger: Ledger, lookup_files: dict[str, Path], started: list[str]) -> FastAPI:
    """The app with everybody let in, and runs that are only noted."""
    app = create_app(lambda run_id, _ledger, _user: started.append(run_id))
    for check in security.CHECKS.values():
        app.dependency_overrides[check] = lambda: None
    app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="somebody", role="admin")
    return app


@pytest.fixture
def api(app: FastAPI) -> Iterator[TestClient]:
    """What speaks to it; what goes wrong inside is an answer, as it is for a caller."""
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
