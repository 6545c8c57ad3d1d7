"""The client, against a small server that answers as it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from event_hooks.client import EventClient, RequestRejected, ServerUnreachable, http, load_token, log_in

Answer = tuple[int, dict[str, str], Any]


class Server(ThreadingHTTPServer):
    """Gives its answers one after the other, the last one for ever; a status of 0 breaks off."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Answer] = [(200, {}, {})]
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []

    @property
    def uri(self) -> str:
        """Where the API would be."""
        return f"http://127.0.0.1:{self.server_port}/event-hooks"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = (self.command, self.path, dict(self.headers), json.loads(body) if body else None)
        self.server.asked.append(asked)
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
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server, on this machine and without a proxy before it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PAUSE", 0.01)


@pytest.fixture
def client(server: Server) -> EventClient:
    """The client of this server, with a slash too many."""
    return EventClient(server.uri + "/", "the_token", timeout=2)


BUSY: Answer = (503, {}, {"error": "the ledger cannot be used now"})


def test_a_request_without_event_ids_is_sent_again_under_the_same_key(
    server: Server, client: EventClient
) -> None:
    server.answers = [BUSY, (0, {}, None), (201, {}, {"id": 7})]
    assert client.submit([{"type": "a"}, {"type": "b", "event_id": None}]) == {"id": 7}
    keys = [headers["Idempotency-Key"] for _, _, headers, _ in server.asked]
    assert (len(keys), len(set(keys))) == (3, 1)
    client.submit({"type": "a"})
    assert server.asked[-1][2]["Idempotency-Key"] != keys[0]


def test_events_with_ids_are_sent_again_without_a_key(server: Server, client: EventClient) -> None:
    server.answers = [BUSY, (201, {}, {})]
    client.submit({"type": "a", "event_id": 0})
    assert ["Idempotency-Key" in headers for _, _, headers, _ in server.asked] == [False, False]


def test_a_mixed_request_is_sent_once(server: Server, client: EventClient) -> None:
    server.answers = [BUSY]
    with pytest.raises(ServerUnreachable, match="answers 503: the ledger cannot be used now"):
        client.submit([{"type": "a"}, {"type": "b", "event_id": 1}])
    assert len(server.asked) == 1
    assert "Idempotency-Key" not in server.asked[0][2]


def test_it_gives_up_after_four_times(server: Server, client: EventClient) -> None:
    server.answers = [BUSY]
    with pytest.raises(ServerUnreachable):
        client.events()
    assert len(server.asked) == 4


def test_the_pause_that_a_server_asks_for_is_kept(server: Server, client: EventClient) -> None:
    server.answers = [(503, {"Retry-After": "1"}, {"error": "busy"}), (200, {}, ["a"])]
    started = time.monotonic()
    assert client.events() == ["a"]
    assert time.monotonic() - started > 0.9


def test_what_was_refused_is_not_sent_again(server: Server, client: EventClient) -> None:
    server.answers = [(422, {}, {"error": "genome: expected a string or null, not 5"})]
    with pytest.raises(RequestRejected, match="^genome: expected a string or null, not 5$") as caught:
        client.submit({"type": "a", "genome": 5})
    assert (caught.value.status, len(server.asked)) == (422, 1)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((401, {}, {"detail": "Not authenticated"}), r"Not authenticated \(log in"),
        ((403, {}, {"error": "Forbidden"}), r"Forbidden \(this user has no right"),
        ((302, {"Location": "https://elsewhere/"}, ""), "moved to https://elsewhere/: give that address"),
        ((200, {}, "<html>"), "no JSON: is it the right address"),
        ((404, {}, "<html>"), "404 Not Found"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value[0]),
)
def test_a_refusal_says_what_to_do(server: Server, client: EventClient, answer: Answer, told: str) -> None:
    server.answers = [answer]
    with pytest.raises(RequestRejected, match=told) as caught:
        client.events()
    assert "the_token" not in str(caught.value)


def test_a_server_that_says_nothing_is_not_waited_for(server: Server) -> None:
    server.answers = [(0, {}, None)]
    with pytest.raises(ServerUnreachable, match="no answer from"):
        EventClient(server.uri, timeout=0.2).submit([{"type": "a"}, {"type": "b", "event_id": 1}])


def test_all_pages_are_read_from_the_same_server(server: Server, client: EventClient) -> None:
    link = {"Link": '<http://elsewhere/event-hooks/jobs/a%2Fb?limit=2&before=5>; rel="next"'}
    server.answers = [(200, link, [{"id": 6}, {"id": 5}]), (200, {}, [{"id": 4}])]
    assert [job["id"] for job in client.list("a/b")] == [6, 5, 4]
    assert [path for _, path, _, _ in server.asked] == [
        "/event-hooks/jobs/a%2Fb?limit=1000",
        "/event-hooks/jobs/a%2Fb?limit=2&before=5",
    ]


def test_following_asks_only_for_what_is_not_over(server: Server, client: EventClient) -> None:
    states = [(1, True), (2, False), (2, False), (2, True)]
    server.answers = [(200, {}, {"id": number, "is_finished": is_finished}) for number, is_finished in states]
    followed = client.follow([1, 2, 1], interval=0.01)
    assert [(state["id"], state["is_finished"]) for state in followed] == states


def test_following_has_a_limit(server: Server, client: EventClient) -> None:
    server.answers = [(200, {}, {"id": 7, "is_finished": False})]
    with pytest.raises(TimeoutError, match=r"^not over within 0.1 s: 7"):
        list(client.follow([7], interval=0.01, timeout=0.1))


def test_a_login_is_asked_of_airflow_itself(server: Server) -> None:
    server.answers = [(201, {}, {"access_token": "fresh"})]
    assert log_in(f"{server.uri}/", "me", "my_password") == "fresh"
    assert server.asked[0][:2] == ("POST", "/auth/token")
    assert server.asked[0][3] == {"username": "me", "password": "my_password"}


def test_a_token_is_found_in_the_environment_and_in_a_file(
    server: Server, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("of_the_file\n")
    monkeypatch.setenv("EVENT_HOOKS_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.delenv("EVENT_HOOKS_TOKEN", raising=False)
    server.answers = [(200, {}, [])]
    EventClient(server.uri).events()
    assert server.asked[0][2]["Authorization"] == "Bearer of_the_file"
    monkeypatch.setenv("EVENT_HOOKS_TOKEN", "of_the_environment")
    assert load_token() == "of_the_environment"


def test_what_is_no_json_is_not_sent(server: Server, client: EventClient) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        client.submit({"type": "a", "size": float("nan")})
    assert server.asked == []
