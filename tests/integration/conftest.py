"""Tests with real servers; each test has hives without jobs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from event_hooks.ledger.database import Ledger
from event_hooks.reports import topology
from event_hooks.reports.hook import RabbitMQHook
from tests.integration.hives import FIRST_IDS, HivePool, MakeHive, PracticeHive
from tests.integration.ledger.databases import CONNECTION_VARIABLE, ledger_databases


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, so that `-m "not integration"` deselects them."""
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents:
            item.add_marker("integration")


@pytest.fixture(scope="session")
def mysql_url() -> str:
    """The URL of MariaDB or MySQL, with the administrator's login."""
    return os.environ["MYSQL_URL"].rstrip("/")


@pytest.fixture
def sqlite_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory if available, because each small transaction of SQLite waits for the disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def hive_pool(mysql_url: str) -> Iterator[HivePool]:
    """The pool of hive databases of this pytest process."""
    with HivePool(mysql_url, FIRST_IDS) as pool:
        yield pool


@pytest.fixture
def make_hive(
    hive_pool: HivePool, sqlite_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeHive]:
    """A function that returns a hive without jobs: ``make_hive("mysql" or "sqlite", variant=…)``."""
    with hive_pool.hives(sqlite_folder, monkeypatch) as make:
        yield make


@pytest.fixture(params=["mysql", "sqlite"])
def hive(request: pytest.FixtureRequest, make_hive: MakeHive) -> PracticeHive:
    """A hive without jobs, with eHive's stock tables."""
    return make_hive(request.param)


@pytest.fixture
def ledger_server() -> str:
    """The kind of database server of ``ledger``."""
    return "postgresql"


@pytest.fixture
def ledger(
    ledger_server: str, sqlite_folder: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> Iterator[Ledger]:
    """A ledger without rows, at the connection ``event_ledger``."""
    uri = ledger_databases(pytestconfig).empty(ledger_server, sqlite_folder)
    monkeypatch.setenv(CONNECTION_VARIABLE, uri)
    ledger = Ledger()
    yield ledger
    ledger.close()


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A queue that receives all reports of a new exchange."""
    name = f"test_{uuid4().hex}"
    monkeypatch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", os.environ["RABBITMQ_URL"])
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__REPORT_EXCHANGE", name)
    topology.declare_topology(RabbitMQHook(), name, {name: "report.*"})
    yield name
    with RabbitMQHook().channel() as channel:
        channel.queue_delete(name)
        channel.exchange_delete(name)
