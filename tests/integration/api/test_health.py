"""The health of the API server and of the servers it depends on; tests/system has a complete installation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from airflow.models.dag import DagModel
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import update

from event_hooks.api import health
from event_hooks.api.airflow_health import AirflowMonitor
from event_hooks.exceptions import ReportRejected
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events
from event_hooks.ledger.records import NewEvent, PendingReport, run_event_key
from event_hooks.ledger.reports import publish_pending, store_reports
from event_hooks.ledger.tables import event
from tests.integration.hives import PracticeHive

if TYPE_CHECKING:
    from tests.support.airflow_database import AirflowDatabase


@pytest.fixture
def get_health(api: TestClient, app: FastAPI) -> Any:
    """A function that requests the health, without a cache."""

    def request_health() -> Any:
        app.state.health = health.HealthMonitor(app.state.intake, AirflowMonitor())
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


def test_a_rejected_report_is_unhealthy(
    get_health: Any, airflow_database: AirflowDatabase, ledger: Ledger, queue: str
) -> None:
    assert get_health().json()["rabbitmq"]["status"] == "healthy"
    store_reports(ledger, [PendingReport("message", None, "run", "report.info", "{}")])
    assert get_health().json()["rabbitmq"]["status"] == "healthy"

    def reject(reports: Sequence[PendingReport]) -> Iterator[PendingReport]:
        yield from ()
        raise ReportRejected("", {"message": "it is too large"})

    publish_pending(ledger, reject)
    status = get_health().json()
    assert (status["status"], status["rabbitmq"]["status"]) == ("unhealthy", "unhealthy")
    assert status["rabbitmq"]["message"].startswith("RabbitMQ rejects 1 reports")


def test_an_old_event_without_a_run_in_airflow_is_unhealthy(
    get_health: Any, airflow_database: AirflowDatabase, ledger: Ledger
) -> None:
    payload = {"type": "new_assembly"}
    new_event = NewEvent(run_event_key("run", 0), "new_assembly", None, payload, "test")
    accept_events(ledger, [new_event], "run")
    assert get_health().json()["runs"] == {"status": "healthy"}
    with ledger.transaction() as connection:
        connection.execute(update(event).values(received_at=datetime.now(UTC) - 2 * health.RUN_AGE))
    status = get_health()
    assert (status.status_code, status.json()["runs"]["status"]) == (503, "unhealthy")
    assert "1 runs have unfinished events, and do not run in Airflow, the first run." in status.text
    airflow_database.add_run("run")
    assert get_health().json()["runs"] == {"status": "healthy"}


def test_a_submission_to_a_paused_dag_has_a_warning(
    api: TestClient, airflow_database: AirflowDatabase
) -> None:
    airflow_database.execute(update(DagModel).values(is_paused=True))
    response = api.post("/jobs", json={"type": "nothing"})
    assert response.status_code == 201
    (warning,) = response.json()["warnings"]
    assert warning.startswith("process_event is paused: events are accepted, and not processed; resume")
    (item,) = api.post("/jobs", json=[{"type": "nothing"}]).json()
    assert item["warnings"] == [warning]


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
