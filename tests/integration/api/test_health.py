"""What the API server tells of all that event hooks stands on; tests/system has a whole one."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from event_hooks.api import health
from tests.integration.hives import PracticeHive


@pytest.fixture
def health_of(api: TestClient, app: FastAPI) -> Any:
    """Asks anew each time."""

    def ask() -> Any:
        app.state.health = health.Health(app.state.intake)
        return api.get("/health")

    return ask


def test_what_does_not_answer_is_named_without_its_address(
    health_of: Any, first: PracticeHive, other: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", "amqp://somebody:secret_word@127.0.0.1:1/%2F")
    monkeypatch.setenv(
        f"AIRFLOW_CONN_{other.conn_id.upper()}", "mysql://somebody:secret_word@127.0.0.1:1/hive"
    )
    answer = health_of()
    told = answer.json()
    assert (answer.status_code, told["status"]) == (503, "unhealthy")
    assert told["ledger"]["status"] == "healthy"
    assert told["hives"][first.conn_id]["status"] == "healthy"
    assert told["hives"][other.conn_id]["message"] == f"hive '{other.conn_id}' does not answer now"
    assert told["rabbitmq"]["message"] == "RabbitMQ cannot be used now: reports are owed"
    assert told["triggerers"]["status"] == "unhealthy"  # no Airflow runs here
    for word in ("127.0.0.1", "somebody", "secret_word"):
        assert word not in answer.text


def test_an_exchange_that_is_missing_is_not_healthy(health_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPORT_EXCHANGE", "not_there")
    assert health_of().json()["rabbitmq"]["status"] == "unhealthy"


def test_hives_that_the_api_server_may_not_reach_are_unknown(
    health_of: Any, first: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__WRITE_THROUGH", "no")
    assert health_of().json()["hives"][first.conn_id]["status"] == "unknown"


def test_many_who_ask_at_once_are_one_question(api: TestClient, app: FastAPI) -> None:
    first = api.get("/health").json()
    assert api.get("/health").json() == first
    asked = app.state.health._asked
    api.get("/health")
    assert app.state.health._asked is asked
