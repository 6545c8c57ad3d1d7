"""The health of the API server and of the servers it depends on; tests/system has a complete installation."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from event_hooks.api import health
from tests.integration.hives import PracticeHive


@pytest.fixture
def get_health(api: TestClient, app: FastAPI) -> Any:
    """A function that requests the health, without a cache."""

    def request_health() -> Any:
        app.state.health = health.HealthMonitor(app.state.intake)
        return api.get("/health")

    return request_health


def test_an_unavailable_component_is_named_without_its_address(
    get_health: Any, first_hive: PracticeHive, other_hive: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", "amqp://some_user:secret_word@127.0.0.1:1/%2F")
    monkeypatch.setenv(
        f"AIRFLOW_CONN_{other_hive.conn_id.upper()}", "mysql://some_user:secret_word@127.0.0.1:1/hive"
    )
    response = get_health()
    status = response.json()
    assert (response.status_code, status["status"]) == (503, "unhealthy")
    assert status["ledger"]["status"] == "healthy"
    assert status["hives"][first_hive.conn_id]["status"] == "healthy"
    assert (
        status["hives"][other_hive.conn_id]["message"] == f"hive '{other_hive.conn_id}' does not answer now"
    )
    assert status["rabbitmq"]["message"] == "RabbitMQ is unavailable: reports stay pending"
    assert status["triggerers"]["status"] == "unhealthy"  # no Airflow runs here
    for secret in ("127.0.0.1", "some_user", "secret_word"):
        assert secret not in response.text


def test_a_blocked_beekeeper_is_not_alive(get_health: Any, first_hive: PracticeHive) -> None:
    first_hive.execute(
        "INSERT INTO beekeeper (beekeeper_id, meadow_host, meadow_user, process_id)"
        " VALUES (1, 'hpc-1', 'me', '1')"
    )
    assert get_health().json()["hives"][first_hive.conn_id] == {"status": "healthy", "beekeeper": True}
    first_hive.execute("UPDATE beekeeper SET is_blocked = 1")
    status = get_health().json()["hives"][first_hive.conn_id]
    assert (status["status"], status["beekeeper"]) == ("healthy", False)
    assert "on hpc-1 is blocked" in status["message"]


def test_a_missing_exchange_is_unhealthy(get_health: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPORT_EXCHANGE", "not_there")
    assert get_health().json()["rabbitmq"]["status"] == "unhealthy"


def test_hives_are_unknown_without_write_through(
    get_health: Any, first_hive: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__WRITE_THROUGH", "no")
    assert get_health().json()["hives"][first_hive.conn_id]["status"] == "unknown"


def test_concurrent_health_requests_share_one_check(api: TestClient, app: FastAPI) -> None:
    first = api.get("/health").json()
    assert api.get("/health").json() == first
    task = app.state.health._task
    api.get("/health")
    assert app.state.health._task is task
