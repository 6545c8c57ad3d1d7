"""The client, against a small server with prepared answers."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from event_hooks.client import (
    AsyncEventClient,
    EventClient,
    RequestRejected,
    ServerUnreachable,
    http,
    load_token,
    log_in,
)
from event_hooks.client.auth import TokenAuth
from tests.support.json_server import Answer, JsonServer
from tools.ports import find_free_port


class BlockingClient:
    """The methods of an AsyncEventClient, each of which runs on an event loop until it returns."""

    def __init__(self, client: AsyncEventClient, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            result = getattr(self._client, name)(*arguments, **options)
            return self._runner.run(_collect(result) if isinstance(result, AsyncIterator) else result)

        return call


async def _collect(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


@pytest.fixture
def server(json_server: JsonServer) -> JsonServer:
    """The server of this client."""
    return json_server


@pytest.fixture(params=["blocking", "async"])
def client(request: pytest.FixtureRequest, server: JsonServer) -> Iterator[EventClient]:
    """Both clients of this server; its address ends with a slash."""
    if request.param == "blocking":
        with EventClient(server.uri + "/", "the_token", timeout=2) as client:
            yield client
    else:
        with asyncio.Runner() as runner:
            client = AsyncEventClient(server.uri + "/", "the_token", timeout=2)
            yield cast("EventClient", BlockingClient(client, runner))
            runner.run(client.aclose())


BUSY: Answer = (503, {}, {"error": "the ledger is unavailable now"})


def test_a_request_without_event_ids_is_retried_with_the_same_key(
    server: JsonServer, client: EventClient
) -> None:
    server.answers = [BUSY, (0, {}, None), (201, {}, {"id": 7})]
    assert client.submit([{"type": "a"}, {"type": "b", "event_id": None}]) == {"id": 7}
    keys = [headers["Idempotency-Key"] for _, _, headers, _ in server.requests]
    assert (len(keys), len(set(keys))) == (3, 1)
    client.submit({"type": "a"})
    assert server.requests[-1][2]["Idempotency-Key"] != keys[0]


def test_events_with_ids_are_retried_without_a_key(server: JsonServer, client: EventClient) -> None:
    server.answers = [BUSY, (201, {}, {})]
    client.submit({"type": "a", "event_id": 0})
    assert ["Idempotency-Key" in headers for _, _, headers, _ in server.requests] == [False, False]


def test_a_mixed_batch_is_sent_once(server: JsonServer, client: EventClient) -> None:
    server.answers = [BUSY]
    with pytest.raises(ServerUnreachable, match="answers 503: the ledger is unavailable now"):
        client.submit([{"type": "a"}, {"type": "b", "event_id": 1}])
    assert len(server.requests) == 1
    assert "Idempotency-Key" not in server.requests[0][2]


def test_a_request_is_retried_three_times(server: JsonServer, client: EventClient) -> None:
    server.answers = [BUSY]
    with pytest.raises(ServerUnreachable):
        client.events()
    assert len(server.requests) == 4


def test_the_client_waits_for_retry_after(server: JsonServer, client: EventClient) -> None:
    server.answers = [(503, {"Retry-After": "1"}, {"error": "busy"}), (200, {}, ["a"])]
    started = time.monotonic()
    assert client.events() == ["a"]
    assert time.monotonic() - started > 0.9


@pytest.mark.parametrize("delay", ["3600", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_a_long_retry_after_is_shortened(
    server: JsonServer, client: EventClient, delay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_RETRY_AFTER_SECONDS", 0.3)
    server.answers = [(429, {"Retry-After": delay}, {"error": "busy"}), (200, {}, ["a"])]
    started = time.monotonic()
    assert client.events() == ["a"]
    assert time.monotonic() - started > 0.3


def test_a_rejected_request_is_not_retried(server: JsonServer, client: EventClient) -> None:
    server.answers = [(422, {}, {"error": "genome: expected a string or null, not 5"})]
    with pytest.raises(RequestRejected, match="^genome: expected a string or null, not 5$") as error:
        client.submit({"type": "a", "genome": 5})
    assert (error.value.status, len(server.requests)) == (422, 1)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, {}, {"detail": "Not authenticated"}), r"Not authenticated \(log in"),
        ((401, {}, {"detail": "Token Expired"}), r"Token Expired \(log in with .* expired"),
        ((403, {}, {"error": "Forbidden"}), r"Forbidden \(this user has no permission"),
        ((403, {}, {"detail": "Invalid JWT token"}), r"the token is wrong: .*log in with"),
        ((302, {"Location": "https://elsewhere/"}, ""), "moved to https://elsewhere/: use that address"),
        ((200, {}, "<html>"), "is not JSON: check the address"),
        ((404, {}, "<html>"), "404 Not Found"),
        ((400, {}, {"errors": ["a", {"b": 1}], "detail": "of a proxy"}), "^of a proxy$"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value[0]),
)
def test_a_rejection_contains_advice(
    server: JsonServer, client: EventClient, answer: Answer, message: str
) -> None:
    server.answers = [answer]
    with pytest.raises(RequestRejected, match=message) as error:
        client.events()
    assert "the_token" not in str(error.value)


def test_all_wrong_fields_are_named(server: JsonServer, client: EventClient) -> None:
    errors = [{"pointer": "/0/type", "detail": "it is missing"}, {"pointer": "/1/genome", "detail": "not 5"}]
    headers = {"Content-Type": "application/problem+json"}
    problem = {"title": "Unprocessable", "detail": "type: it is missing", "error": "type: it is missing"}
    server.answers = [(422, headers, {**problem, "errors": errors})]
    with pytest.raises(RequestRejected, match="^/0/type: it is missing; /1/genome: not 5$"):
        client.submit([{}, {"genome": 5}])
    server.answers = [(422, headers, {**problem, "errors": errors[:1]})]
    with pytest.raises(RequestRejected, match="^type: it is missing$"):
        client.submit({})


def test_a_closed_connection_is_an_unreachable_server(server: JsonServer, client: EventClient) -> None:
    server.answers = [(0, {}, None)]
    with pytest.raises(ServerUnreachable, match=r"no answer from http.*: Server disconnected"):
        client.submit([{"type": "a"}, {"type": "b", "event_id": 1}])


def test_the_cause_of_a_missing_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(http, "MAX_RETRIES", 0)
    closed = f"http://127.0.0.1:{find_free_port()}"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ServerUnreachable, match=f"^no answer from {closed}: .*Connection refused$"):
            EventClient(closed).events()
        with pytest.raises(ServerUnreachable, match=f"^no answer from {closed}: .*Connect call failed"):
            asyncio.run(AsyncEventClient(closed).events())
        with pytest.raises(ServerUnreachable, match=f"^no answer from {silent}: timed out$"):
            EventClient(silent, timeout=0.2).events()
        with pytest.raises(ServerUnreachable, match=f"^no answer from {silent}: TimeoutError$"):
            asyncio.run(AsyncEventClient(silent, timeout=0.2).events())


def test_the_client_asks_for_json_and_ignores_netrc(
    server: JsonServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password my_password\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    EventClient(server.uri).delete("a", 5)
    method, path, headers, _ = server.requests[0]
    assert (method, path, headers["Accept"]) == ("DELETE", "/event-hooks/jobs/a/5", "application/json")
    assert "Authorization" not in headers


def test_a_proxy_of_the_environment_is_used(server: JsonServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.uri)
    server.answers = [(200, {}, ["a"])]
    assert EventClient("http://behind.the.proxy").events() == ["a"]
    assert server.requests[0][1] == "http://behind.the.proxy/events"


def test_a_closed_client_sends_nothing(server: JsonServer) -> None:
    with EventClient(server.uri) as client:
        client.events()
    with pytest.raises(RuntimeError, match="closed"):
        client.events()
    assert len(server.requests) == 1


def test_all_pages_are_requested_from_the_same_server(server: JsonServer, client: EventClient) -> None:
    link = {"Link": '<http://elsewhere/event-hooks/jobs/a%2Fb?limit=2&before=5>; rel="next"'}
    server.answers = [(200, link, [{"id": 6}, {"id": 5}]), (200, {}, [{"id": 4}])]
    assert [job["id"] for job in client.list("a/b")] == [6, 5, 4]
    assert [path for _, path, _, _ in server.requests] == [
        "/event-hooks/jobs/a%2Fb?limit=1000",
        "/event-hooks/jobs/a%2Fb?limit=2&before=5",
    ]


def test_a_limit_ends_a_list(server: JsonServer, client: EventClient) -> None:
    link = {"Link": '</event-hooks/jobs/a?limit=2&before=5>; rel="next"'}
    server.answers = [(200, link, [{"id": 6}, {"id": 5}])]
    assert [job["id"] for job in client.list("a", limit=3)] == [6, 5, 6]
    assert [job["id"] for job in client.list("a", limit=2)] == [6, 5]
    assert [path.partition("?")[2] for _, path, _, _ in server.requests] == [
        "limit=3",
        "limit=2&before=5",
        "limit=2",
    ]


def test_events_are_found_by_filters(server: JsonServer, client: EventClient) -> None:
    link = {"Link": '</event-hooks/events?cursor=x%3D>; rel="next"'}
    server.answers = [(200, link, [{"id": 6}]), (200, {}, [{"id": 4}])]
    since = datetime(2026, 11, 1, tzinfo=UTC)
    found = client.find_events(state="failed", type="new_assembly", genome="a b", since=since)
    assert [event["id"] for event in found] == [6, 4]
    filters, cursor = (parse_qs(urlsplit(path).query) for _, path, _, _ in server.requests)
    assert filters == {
        "state": ["failed"],
        "type": ["new_assembly"],
        "genome": ["a b"],
        "since": ["2026-11-01T00:00:00+00:00"],
        "limit": ["100"],
    }
    assert cursor == {"cursor": ["x="]}


def test_plans_are_compared_in_one_request(server: JsonServer, client: EventClient) -> None:
    answer = {"events": 3, "differences": []}
    server.answers = [(200, {}, answer), BUSY]
    until = datetime(2026, 11, 1, tzinfo=UTC)
    assert client.compare_plans("30d", until=until, event_lookup={"a": []}) == answer
    assert server.requests[0][:2] == ("POST", "/event-hooks/plan/compare")
    assert server.requests[0][3] == {
        **{"since": "30d", "until": "2026-11-01T00:00:00+00:00"},
        **{"event_lookup": {"a": []}, "process_lookup": None},
    }
    with pytest.raises(ServerUnreachable):
        client.compare_plans("30d", process_lookup={})
    assert len(server.requests) == 2


def test_a_retry_and_a_stop_send_only_the_given_filters(server: JsonServer, client: EventClient) -> None:
    answer = {"events": 1, "applied": 1, "items": []}
    server.answers = [(200, {}, answer)] * 3
    assert client.retry([7], process="dump_dna") == answer
    client.retry(state="failed", since="2h", mode="event", dry_run=True, force=True)
    client.stop(genome="homo_*", until=datetime(2026, 11, 1, tzinfo=UTC))
    flags = {"dry_run": False, "force": False}
    assert [(path, body) for _, path, _, body in server.requests] == [
        ("/event-hooks/retry", {"ids": [7], "process": "dump_dna", "mode": "failed_jobs", **flags}),
        (
            "/event-hooks/retry",
            {"state": "failed", "since": "2h", "mode": "event", "dry_run": True, "force": True},
        ),
        ("/event-hooks/stop", {"genome": "homo_*", "until": "2026-11-01T00:00:00+00:00", **flags}),
    ]


def test_a_retry_is_sent_again_after_an_error_unless_it_repeats_events(
    server: JsonServer, client: EventClient
) -> None:
    answer = {"events": 1, "applied": 1, "items": []}
    server.answers = [BUSY, (200, {}, answer), BUSY]
    assert client.retry([7]) == answer
    with pytest.raises(ServerUnreachable):
        client.retry([7], mode="event")
    assert len(server.requests) == 3


@pytest.mark.alone
def test_a_comparison_waits_longer_than_other_requests(
    server: JsonServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_RETRIES", 0)
    server.seconds = 0.8
    asyncio.run(AsyncEventClient(server.uri, timeout=0.4).compare_plans("30d", event_lookup={}))
    with EventClient(server.uri, timeout=0.4) as client:
        client.compare_plans("30d", event_lookup={})
        with pytest.raises(ServerUnreachable, match="timed out"):
            client.events()


def test_a_time_without_a_time_zone_is_invalid(server: JsonServer, client: EventClient) -> None:
    with pytest.raises(ValueError, match="^since: expected a time with a time zone, not 2026-11-01T00:00:00"):
        list(client.find_events(since=datetime(2026, 11, 1)))  # noqa: DTZ001
    with pytest.raises(ValueError, match="^until: expected a time with a time zone, not 2026-11-01T00:00:00"):
        client.compare_plans("30d", until=datetime(2026, 11, 1), event_lookup={})  # noqa: DTZ001
    assert server.requests == []


def test_follow_polls_unfinished_events_only(server: JsonServer, client: EventClient) -> None:
    polls = [[(2, False), (1, True)], [(2, False)], [(2, True)]]
    server.answers = [(200, {}, [{"id": i, "is_finished": end} for i, end in poll]) for poll in polls]
    followed = client.follow([1, 2, 1], interval=0.01)
    assert [(event["id"], event["is_finished"]) for event in followed] == [*polls[0], *polls[1], *polls[2]]
    queries = [urlsplit(path).query for _, path, _, _ in server.requests]
    assert queries == ["id=1&id=2", "id=2", "id=2"]


def test_one_request_polls_100_events(server: JsonServer, client: EventClient) -> None:
    server.answers = [
        (200, {}, [{"id": i, "is_finished": True} for i in range(start, stop)])
        for start, stop in ((0, 100), (100, 150))
    ]
    assert len(list(client.follow(range(150)))) == 150
    assert [path.count("id=") for _, path, _, _ in server.requests] == [100, 50]


def test_follow_ends_after_its_timeout(server: JsonServer, client: EventClient) -> None:
    server.answers = [(200, {}, [{"id": 7, "is_finished": False}])]
    with pytest.raises(TimeoutError, match=r"^events not finished within 0.1 s: 7$"):
        list(client.follow([7], interval=0.01, timeout=0.1))


def test_a_login_is_sent_to_airflow(server: JsonServer) -> None:
    server.answers = [(201, {}, {"access_token": "fresh"})]
    assert log_in(f"{server.uri}/", "me", "my_password") == "fresh"
    assert server.requests[0][:2] == ("POST", "/auth/token")
    assert server.requests[0][3] == {"username": "me", "password": "my_password"}


def test_a_rejected_login_says_so(server: JsonServer) -> None:
    server.answers = [(401, {}, {"detail": "Invalid credentials"})]
    with pytest.raises(RequestRejected, match="^user or password is wrong$") as error:
        log_in(server.uri, "me", "my_password")
    assert error.value.status == 401


EXPIRED: Answer = (401, {}, {"detail": "Token Expired"})


def log_in_as(token: str) -> Answer:
    return 201, {}, {"access_token": token}


@pytest.fixture(params=["blocking", "async"])
def renewing(request: pytest.FixtureRequest, server: JsonServer) -> Iterator[EventClient]:
    """Both clients with a token that has expired, and the login."""
    arguments = {"token": "old", "login": ("me", "my_password"), "timeout": 2}
    if request.param == "blocking":
        with EventClient(server.uri, **arguments) as client:
            yield client
    else:
        with asyncio.Runner() as runner:
            client = AsyncEventClient(server.uri, **arguments)
            yield cast("EventClient", BlockingClient(client, runner))
            runner.run(client.aclose())


def list_tokens(server: JsonServer) -> list[str]:
    """Return the path or the token of each request."""
    return [
        "login" if path == "/auth/token" else headers.get("Authorization", "")
        for _, path, headers, _ in server.requests
    ]


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda client: client.events(), ["a"]),
        (lambda client: client.submit({"type": "a"}), {"id": 1}),
        (lambda client: client.submit([{"type": "a"}, {"type": "b", "event_id": 1}]), [{"id": 1}]),
        (lambda client: list(client.follow([1])), [{"id": 1, "is_finished": True}]),
        (lambda client: list(client.list("dump")), [{"id": 1}]),
        (lambda client: client.delete("dump", 1), {"id": 1}),
    ],
    ids=["events", "submit", "mixed batch", "follow", "list", "delete"],
)
def test_an_expired_token_is_renewed_once_for_any_request(
    server: JsonServer, renewing: EventClient, call: Callable[[EventClient], Any], answer: Any
) -> None:
    server.answers = [EXPIRED, log_in_as("new"), (200, {}, answer)]
    assert call(renewing) == answer
    call(renewing)
    assert list_tokens(server) == ["Bearer old", "login", "Bearer new", "Bearer new"]
    first, login, repeated, _ = server.requests
    assert (first[3], login[3]) == (repeated[3], {"username": "me", "password": "my_password"})
    assert first[2].get("Idempotency-Key") == repeated[2].get("Idempotency-Key")


def test_a_second_401_is_the_answer(server: JsonServer, renewing: EventClient) -> None:
    server.answers = [EXPIRED, log_in_as("new"), EXPIRED]
    with pytest.raises(RequestRejected, match="Token Expired"):
        renewing.events()
    assert list_tokens(server) == ["Bearer old", "login", "Bearer new"]


@pytest.mark.parametrize("answer", [EXPIRED, (200, {}, {}), (404, {}, {"detail": "Not Found"})], ids=str)
def test_a_login_that_fails_is_not_repeated(
    server: JsonServer, renewing: EventClient, answer: Answer
) -> None:
    server.answers = [EXPIRED, answer]
    with pytest.raises(RequestRejected, match=r"password is wrong|returns no token|Not Found") as error:
        renewing.events()
    assert "my_password" not in str(error.value)
    assert list_tokens(server) == ["Bearer old", "login"]


def test_a_login_is_retried_while_airflow_is_unavailable(server: JsonServer, renewing: EventClient) -> None:
    server.answers = [EXPIRED, BUSY, EXPIRED, log_in_as("new"), (200, {}, [])]
    assert renewing.events() == []


def test_a_client_without_a_token_logs_in_first(server: JsonServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENT_HOOKS_TOKEN", "of_the_environment")
    server.answers = [log_in_as("new"), (200, {}, [])]
    EventClient(server.uri, login=("me", "my_password")).events()
    assert list_tokens(server) == ["login", "Bearer new"]


def test_concurrent_requests_use_a_renewed_token(server: JsonServer) -> None:
    """The second request is answered with 401 after the first has renewed the token."""
    auth = TokenAuth(server.uri, "old", ("me", "my_password"))
    flows = [auth.auth_flow(httpx.Request("GET", server.uri)) for _ in range(2)]
    sent = [next(flow) for flow in flows]
    assert [request.headers["Authorization"] for request in sent] == ["Bearer old"] * 2
    assert flows[0].send(httpx.Response(401)).url.path == "/auth/token"
    new_token = httpx.Response(201, json={"access_token": "new"})
    repeated = [flows[0].send(new_token), flows[1].send(httpx.Response(401))]
    assert [request.headers["Authorization"] for request in repeated] == ["Bearer new"] * 2


def test_a_token_is_loaded_from_the_environment_or_a_file(
    server: JsonServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("of_the_file\n")
    monkeypatch.setenv("EVENT_HOOKS_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.delenv("EVENT_HOOKS_TOKEN", raising=False)
    server.answers = [(200, {}, [])]
    EventClient(server.uri).events()
    assert server.requests[0][2]["Authorization"] == "Bearer of_the_file"
    monkeypatch.setenv("EVENT_HOOKS_TOKEN", "of_the_environment")
    assert load_token() == "of_the_environment"


def test_an_event_that_json_cannot_hold_is_not_sent(server: JsonServer, client: EventClient) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        client.submit({"type": "a", "size": float("nan")})
    assert server.requests == []
