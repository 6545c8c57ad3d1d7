"""Answers of an event server, or of a server at its address, to follow-up events."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from event_hooks.exceptions import EventRejected, EventServerUnreachable
from event_hooks.follow_ups.hook import EventServerHook
from tests.support.json_server import JsonServer, run_json_server

EVENTS = [{"type": "a", "event_id": "1"}, {"type": "a", "event_id": "2"}]
ITEMS = [{"id": 1, "event": EVENTS[0], "status_code": 201}, {"id": 2, "event": EVENTS[1], "status_code": 200}]
HTML = "<html><body>Welcome</body></html>"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JsonServer]:
    """An HTTP server at the address of the event server."""
    with run_json_server() as server:
        monkeypatch.setenv("EVENT_URI", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AIRFLOW_CONN_EVENT_SERVER", "http://")
        yield server


@pytest.mark.parametrize("status", [200, 201, 202])
def test_an_item_per_event_is_a_success(server: JsonServer, status: int) -> None:
    server.answers = [(status, {}, ITEMS)]
    EventServerHook().submit(EVENTS)


@pytest.mark.parametrize("status", [400, 404, 409, 422])
def test_an_error_of_our_api_is_a_rejection(server: JsonServer, status: int) -> None:
    server.answers = [(status, {}, {"error": "events[0].type: expected one of b, not 'a'"})]
    with pytest.raises(EventRejected, match=rf"{status}: events\[0\].type: expected one of b"):
        EventServerHook().submit(EVENTS)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, HTML),
        (405, HTML),
        (404, '{"detail": "Not Found"}'),
        (405, '{"detail": "Method Not Allowed"}'),
        (404, '{"error": "Not Found"}'),  # our API at a wrong path
        (405, '{"error": "Method Not Allowed"}'),
        (422, '{"detail": [{"loc": ["body"], "msg": "field required"}]}'),
        (413, '["error"]'),
        (403, '{"error": "no permission"}'),
        (200, HTML),
        (200, ""),
        (204, ""),
        (200, "{}"),
        (200, "[]"),
        (201, json.dumps(ITEMS[:1])),
        (201, json.dumps(["1", "2"])),
    ],
)
def test_an_answer_of_another_server_leaves_events_pending(
    server: JsonServer, status: int, body: str
) -> None:
    server.answers = [(status, {}, body)]
    with pytest.raises(EventServerUnreachable, match=f"it answers {status}"):
        EventServerHook().submit(EVENTS)


def test_the_error_of_another_server_says_what_is_expected(server: JsonServer) -> None:
    for status, expected in ((200, "an item for each of the 2 events"), (404, '"error": "<field>')):
        server.answers = [(status, {}, "")]
        with pytest.raises(EventServerUnreachable, match=expected) as caught:
            EventServerHook().submit(EVENTS)
        assert "check that its address leads to an Airflow with the plugin event hooks" in str(caught.value)
