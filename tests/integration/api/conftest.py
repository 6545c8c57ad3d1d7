"""The API app on a real ledger and real hives; tests/system tests the permissions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi import FastAPI
from fastapi.testclient import TestClient

from event_hooks.api import pending_work, security
from event_hooks.api.app import create_app
from event_hooks.ledger.database import Ledger
from event_hooks.runtime.api_server import get_user
from tests.integration.hives import PracticeHive, temporary_hives


@pytest.fixture(scope="package")
def patch() -> Iterator[pytest.MonkeyPatch]:
    """A MonkeyPatch for all tests of this package."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="package")
def package_hives(mysql_url: str, patch: pytest.MonkeyPatch) -> Iterator[list[PracticeHive]]:
    """The hive of both processes of new_assembly, and a second hive."""
    with temporary_hives(mysql_url, Path(), patch) as make:
        yield [make(analyses=("event_dump_dna", "event_dump_peptide")), make()]


@pytest.fixture
def hives(package_hives: list[PracticeHive]) -> Iterator[list[PracticeHive]]:
    """Two hives without jobs."""
    yield package_hives
    for hive in package_hives:
        hive.wipe()


@pytest.fixture
def first_hive(hives: list[PracticeHive]) -> PracticeHive:
    """The hive of both processes of new_assembly."""
    return hives[0]


@pytest.fixture
def other_hive(hives: list[PracticeHive]) -> PracticeHive:
    """The hive of dump_other."""
    return hives[1]


@pytest.fixture
def lookup_files(
    first_hive: PracticeHive, other_hive: PracticeHive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Path]:
    """Lookups with two hives, and an analysis that is in neither hive."""
    processes = {
        "dump_dna": {"analysis": "event_dump_dna", "hive_conn_id": first_hive.conn_id},
        "dump_peptide": {"analysis": "event_dump_peptide", "hive_conn_id": first_hive.conn_id},
        "dump_other": {"analysis": "event_dump_dna", "hive_conn_id": other_hive.conn_id},
        "dump_nothing": {"analysis": "nothing", "hive_conn_id": first_hive.conn_id},
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
    # On a busy machine, the default is too short; the tests of this timeout set it themselves.
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__WRITE_THROUGH_TIMEOUT", "20")
    return files


@pytest.fixture
def started() -> list[str]:
    """The ids of the started runs."""
    return []


@pytest.fixture
def cleared() -> list[dict[str, set[str]]]:
    """The tasks that each call of Airflow has cleared, by run."""
    return []


@pytest.fixture
def app(
    ledger: Ledger,
    lookup_files: dict[str, Path],
    started: list[str],
    cleared: list[dict[str, set[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> FastAPI:
    """The app without permission checks and polls; starting a run or clearing tasks only records it."""
    monkeypatch.setattr(pending_work, "POLL_SECONDS", 3600.0)
    app = create_app(
        lambda run_id, _ledger, _user: started.append(run_id),
        lambda tasks: cleared.append({run_id: set(names) for run_id, names in tasks.items()}),
    )
    for check in security.PERMISSION_CHECKS.values():
        app.dependency_overrides[check] = lambda: None
    app.dependency_overrides[security.can_edit] = lambda: True
    app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="some_user", role="admin")
    return app


@pytest.fixture
def api(app: FastAPI) -> Iterator[TestClient]:
    """A client of the app; it returns an internal error as a response, as a real client receives it."""
    headers = {"Accept": "application/json"}
    with TestClient(app, raise_server_exceptions=False, headers=headers) as client:
        yield client
