"""Logins at the event server, whose password check is slow on purpose."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from uuid import uuid4

import pytest

from event_hooks.exceptions import EventServerUnreachable
from event_hooks.follow_ups.hook import EventServerHook

EVENT = {"type": "a", "event_id": "1"}


class _Server(HTTPServer):
    """An event server that accepts the token of the last login, unless ``token`` has changed since."""

    token = "token_1"
    logins = 0


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        """Return a token, or the item of an accepted event, or 401."""
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/auth/token":
            self.server.logins += 1
            self._send(201, {"access_token": self.server.token})
        elif self.headers["Authorization"] == f"Bearer {self.server.token}":
            self._send(201, [{"id": 1}])
        else:
            self._send(401, {"error": "Invalid JWT token"})

    def _send(self, status: int, body: object) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    """An event server with a new password."""
    server = _Server(("127.0.0.1", 0), _Handler)
    url = f"http://event_hooks:{uuid4().hex}@127.0.0.1:{server.server_port}"
    monkeypatch.setenv("AIRFLOW_CONN_EVENT_SERVER", url)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_process_logs_in_once(server: _Server) -> None:
    for _ in range(3):
        EventServerHook().submit([EVENT])
    assert server.logins == 1


def test_another_password_is_another_login(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    EventServerHook().submit([EVENT])
    url = f"http://event_hooks:{uuid4().hex}@127.0.0.1:{server.server_port}"
    monkeypatch.setenv("AIRFLOW_CONN_EVENT_SERVER", url)
    EventServerHook().submit([EVENT])
    assert server.logins == 2


def test_a_rejected_token_is_replaced_at_the_next_attempt(server: _Server) -> None:
    EventServerHook().submit([EVENT])
    server.token = "token_2"
    with pytest.raises(EventServerUnreachable, match="401: Invalid JWT token"):
        EventServerHook().submit([EVENT])
    EventServerHook().submit([EVENT])
    assert server.logins == 2
