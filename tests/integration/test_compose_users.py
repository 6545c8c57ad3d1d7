"""The users of docker-compose.yaml are in a database, and follow-up events have one of their own."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from event_hooks.runtime.fab_users import FOLLOW_UPS
from tests.support.fab_server import FAB_AUTH_MANAGER
from tools.airflow_services import CHECKOUT

TEXT = (CHECKOUT / "docker-compose.yaml").read_text()


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """The services, without substitution of variables."""
    return dict(yaml.safe_load(TEXT)["services"])


def test_users_are_in_a_database(services: dict[str, dict[str, Any]]) -> None:
    environments = {name: service.get("environment", {}) for name, service in services.items()}
    managers = {name: values.get("AIRFLOW__CORE__AUTH_MANAGER") for name, values in environments.items()}
    # No other service needs it, and each one that reads it imports FAB: 1.7 s and 37 MiB more
    assert {name: manager for name, manager in managers.items() if manager} == {
        "set-up": FAB_AUTH_MANAGER,
        "api-server": FAB_AUTH_MANAGER,
    }
    assert "SIMPLE_AUTH_MANAGER" not in TEXT


def test_the_users_are_created_after_their_tables(services: dict[str, dict[str, Any]]) -> None:
    commands = [line.strip() for line in services["set-up"]["command"][0].splitlines()]
    position = commands.index("airflow db migrate")
    assert commands[position + 1] == "python -m event_hooks.runtime.fab_users"
    # No command line has a password: all processes of the machine can read it
    assert [command for command in commands if "PASSWORD" in command] == []


@pytest.mark.parametrize("service", ["triggerer", "worker"])
def test_follow_up_events_have_a_user_of_their_own(services: dict[str, dict[str, Any]], service: str) -> None:
    connection = services[service]["environment"]["AIRFLOW_CONN_EVENT_SERVER"]
    assert connection.startswith(f"http://{FOLLOW_UPS}:${{EVENT_SERVER_PASSWORD:?")
    assert "EVENT_SERVER_PASSWORD" in services["set-up"]["environment"]
    assert "ADMIN_PASSWORD" not in str(services[service])
