"""Logins at the event server: the check of a password takes much CPU time of it."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from event_hooks.exceptions import EventServerUnreachable
from event_hooks.follow_ups.hook import EventServerHook
from tests.support.json_server import JsonServer, run_json_server

EVENT = {"type": "a", "event_id": "1"}
ACCEPTED = (201, {}, [{"id": 1}])


def set_password(server: JsonServer, patch: pytest.MonkeyPatch) -> None:
    """Set a new password in the connection to the server."""
    url = f"http://event_hooks:{uuid4().hex}@127.0.0.1:{server.server_port}"
    patch.setenv("AIRFLOW_CONN_EVENT_SERVER", url)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JsonServer]:
    """An event server with prepared answers."""
    with run_json_server() as server:
        set_password(server, monkeypatch)
        yield server


def log_in(token: str) -> tuple[int, dict[str, str], dict[str, str]]:
    """Return the answer to a login."""
    return 201, {}, {"access_token": token}


def list_requests(server: JsonServer) -> list[str]:
    """Return the token of each request, or ``login``."""
    return [
        "login" if path == "/auth/token" else headers["Authorization"].removeprefix("Bearer ")
        for _, path, headers, _ in server.requests
    ]


def test_a_process_logs_in_once(server: JsonServer) -> None:
    server.answers = [log_in("token_1"), ACCEPTED]
    for _ in range(3):
        EventServerHook().submit([EVENT])
    assert list_requests(server) == ["login", "token_1", "token_1", "token_1"]


def test_another_password_is_another_login(server: JsonServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers = [log_in("token_1"), ACCEPTED, log_in("token_2"), ACCEPTED]
    EventServerHook().submit([EVENT])
    set_password(server, monkeypatch)
    EventServerHook().submit([EVENT])
    assert list_requests(server) == ["login", "token_1", "login", "token_2"]


def test_a_rejected_token_is_replaced_at_the_next_attempt(server: JsonServer) -> None:
    rejected = (401, {}, {"error": "Invalid JWT token"})
    server.answers = [log_in("token_1"), ACCEPTED, rejected, log_in("token_2"), ACCEPTED]
    EventServerHook().submit([EVENT])
    with pytest.raises(EventServerUnreachable, match="401: Invalid JWT token"):
        EventServerHook().submit([EVENT])
    EventServerHook().submit([EVENT])
    assert list_requests(server) == ["login", "token_1", "token_1", "login", "token_2"]
