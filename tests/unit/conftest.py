"""Fixtures of the client and its command."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from event_hooks.client import http
from tests.support.json_server import JsonServer, run_json_server


@pytest.fixture
def json_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JsonServer]:
    """A server with prepared answers, on this machine and without a proxy; retries have short delays."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(http, "BACKOFF_SECONDS", 0.01)
    with run_json_server() as server:
        yield server
