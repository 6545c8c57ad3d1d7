"""Each test that uses ``ledger`` runs on each kind of database server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from event_hooks.reports import topology
from event_hooks.reports.hook import RabbitMQHook
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
