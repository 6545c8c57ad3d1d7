"""Responses while Airflow's own database is unavailable: the check of each login reads it."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import create_engine

from event_hooks.api import security
from event_hooks.runtime.api_server import get_user


def read_closed_port() -> None:
    """Connect as Airflow does to a database that does not answer."""
    create_engine("postgresql+psycopg2://airflow@127.0.0.1:1/airflow").connect()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/jobs"),
        ("POST", "/plan"),
        ("POST", "/plan/compare"),
        ("GET", "/events"),
        ("GET", "/processes"),
        ("GET", "/events/1"),
        ("GET", "/jobs/dump_dna"),
        ("DELETE", "/jobs/dump_dna/1"),
        ("GET", "/health"),
        ("GET", "/board"),
    ],
)
def test_every_route_is_unavailable_without_airflows_database(
    app: FastAPI, api: TestClient, method: str, path: str
) -> None:
    for check in (get_user, *security.PERMISSION_CHECKS.values()):
        app.dependency_overrides[check] = read_closed_port
    response = api.request(method, path, json={"type": "new_assembly", "genome": "g"})
    assert (response.status_code, response.headers["Retry-After"]) == (503, "10")
    assert "Airflow's database does not answer" in response.text.replace("&#39;", "'")
