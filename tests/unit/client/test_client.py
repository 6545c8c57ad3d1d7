"""The client, against a small server with prepared answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from event_hooks.client import EventClient, RequestRejected, ServerUnreachable, http, load_token, log_in

Answer = tuple[int, dict[str, str], Any]


class Server(ThreadingHTTPServer):
    """Sends its answers in order and repeats the last one; status 0 closes the connection."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Answer] = [(200, {}, {})]
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []

    @property
    def uri(self) -> str:
        """Address of the API."""
        return f"http://127.0.0.1:{self.server_port}/event-hooks"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = (self.command, self.path, dict(self.headers), json.loads(body) if body else None)
        self.server.requests.append(request)
        answers = self.server.answers
        status, headers, value = answers.pop(0) if len(answers) > 1 else answers[0]
        if not status:
            return
        text = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        for name, content in {**headers, "Content-Length": str(len(text))}.items():
            self.send_header(name, content)
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 (http.server's names)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server, on this machine and without a proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BACKOFF_SECONDS", 0.01)


@pytest.fixture
def client(server: Server) -> EventClient:
    """A client of this server; its address ends with a slash."""
    return EventClient(server.uri + "/", "the_token", timeout=2)


BUSY: Answer = (503, {}, {"error": "the ledger is unavailable now"})


def test_a_request_without_event_ids_is_retried_with_the_same_key(
    server: Server, client: EventClient
) -> None:
    server.answers = [BUSY, (0, {}, None), (201, {}, {"id": 7})]
    assert client.submit([{"type": "a"}, {"type": "b", "event_id": None}]) == {"id": 7}
    keys = [headers["Idempotency-Key"] for _, _, headers, _ in server.requests]
    assert (len(keys), len(set(keys))) == (3, 1)
    client.submit({"type": "a"})
    assert server.requests[-1][2]["Idempotency-Key"] != keys[0]


def test_events_with_ids_are_retried_without_a_key(server: Server, client: EventClient) -> None:
    server.answers = [BUSY, (201, {}, {})]
    client.submit({"type": "a", "event_id": 0})
    assert ["Idempotency-Key" in headers for _, _, headers, _ in server.requests] == [False, False]


def test_a_mixed_batch_is_sent_once(server: Server, client: EventClient) -> None:
    server.answers = [BUSY]
    with pytest.raises(ServerUnreachable, match="answers 503: the ledger is unavailable now"):
        client.submit([{"type": "a"}, {"type": "b", "event_id": 1}])
    assert len(server.requests) == 1
    assert "Idempotency-Key" not in server.requests[0][2]


def test_a_request_is_retried_three_times(server: Server, client: EventClient) -> None:
    server.answers = [BUSY]
    with pytest.raises(ServerUnreachable):
        client.events()
    assert len(server.requests) == 4


def test_the_client_waits_for_retry_after(server: Server, client: EventClient) -> None:
    server.answers = [(503, {"Retry-After": "1"}, {"error": "busy"}), (200, {}, ["a"])]
    started = time.monotonic()
    assert client.events() == ["a"]
    assert time.monotonic() - started > 0.9


def test_a_rejected_request_is_not_retried(server: Server, client: EventClient) -> None:
    server.answers = [(422, {}, {"error": "genome: expected a string or null, not 5"})]
    with pytest.raises(RequestRejected, match="^genome: expected a string or null, not 5$") as error:
        client.submit({"type": "a", "genome": 5})
    assert (error.value.status, len(server.requests)) == (422, 1)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, {}, {"detail": "Not authenticated"}), r"Not authenticated \(log in"),
        ((403, {}, {"error": "Forbidden"}), r"Forbidden \(this user has no permission"),
        ((302, {"Location": "https://elsewhere/"}, ""), "moved to https://elsewhere/: use that address"),
        ((200, {}, "<html>"), "is not JSON: check the address"),
        ((404, {}, "<html>"), "404 Not Found"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value[0]),
)
def test_a_rejection_contains_advice(
    server: Server, client: EventClient, answer: Answer, message: str
) -> None:
    server.answers = [answer]
    with pytest.raises(RequestRejected, match=message) as error:
        client.events()
    assert "the_token" not in str(error.value)


def test_a_silent_server_is_unreachable_after_the_timeout(server: Server) -> None:
    server.answers = [(0, {}, None)]
    with pytest.raises(ServerUnreachable, match="no answer from"):
        EventClient(server.uri, timeout=0.2).submit([{"type": "a"}, {"type": "b", "event_id": 1}])


def test_all_pages_are_requested_from_the_same_server(server: Server, client: EventClient) -> None:
    link = {"Link": '<http://elsewhere/event-hooks/jobs/a%2Fb?limit=2&before=5>; rel="next"'}
    server.answers = [(200, link, [{"id": 6}, {"id": 5}]), (200, {}, [{"id": 4}])]
    assert [job["id"] for job in client.list("a/b")] == [6, 5, 4]
    assert [path for _, path, _, _ in server.requests] == [
        "/event-hooks/jobs/a%2Fb?limit=1000",
        "/event-hooks/jobs/a%2Fb?limit=2&before=5",
    ]


def test_follow_polls_unfinished_events_only(server: Server, client: EventClient) -> None:
    states = [(1, True), (2, False), (2, False), (2, True)]
    server.answers = [
        (200, {}, {"id": event_id, "is_finished": is_finished}) for event_id, is_finished in states
    ]
    followed = client.follow([1, 2, 1], interval=0.01)
    assert [(event["id"], event["is_finished"]) for event in followed] == states


def test_follow_ends_after_its_timeout(server: Server, client: EventClient) -> None:
    server.answers = [(200, {}, {"id": 7, "is_finished": False})]
    with pytest.raises(TimeoutError, match=r"^events not finished within 0.1 s: 7$"):
        list(client.follow([7], interval=0.01, timeout=0.1))


def test_a_login_is_sent_to_airflow(server: Server) -> None:
    server.answers = [(201, {}, {"access_token": "fresh"})]
    assert log_in(f"{server.uri}/", "me", "my_password") == "fresh"
    assert server.requests[0][:2] == ("POST", "/auth/token")
    assert server.requests[0][3] == {"username": "me", "password": "my_password"}


def test_a_token_is_loaded_from_the_environment_or_a_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("of_the_file\n")
    monkeypatch.setenv("EVENT_HOOKS_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.delenv("EVENT_HOOKS_TOKEN", raising=False)
    server.answers = [(200, {}, [])]
    EventClient(server.uri).events()
    assert server.requests[0][2]["Authorization"] == "Bearer of_the_file"
    monkeypatch.setenv("EVENT_HOOKS_TOKEN", "of_the_environment")
    assert load_token() == "of_the_environment"


def test_an_event_that_json_cannot_hold_is_not_sent(server: Server, client: EventClient) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        client.submit({"type": "a", "size": float("nan")})
    assert server.requests == []
