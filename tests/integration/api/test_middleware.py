"""Security headers, requests across sites, and limits on the time of a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from httpx import ASGITransport, AsyncClient

from event_hooks.api import middleware, request_body, routes
from tests.integration.hives import PracticeHive

EVENT = {"type": "nothing"}


def test_each_response_has_security_headers(app: FastAPI, api: TestClient, first_hive: PracticeHive) -> None:
    paths = {"process": "dump_dna", "job_id": "1", "event_id": "1", "name": "board.css"}
    for route in app.routes:
        assert isinstance(route, APIRoute)
        for method in route.methods:
            headers = api.request(method, route.path.format(**paths), json=EVENT).headers
            assert "default-src 'none'" in headers["Content-Security-Policy"], route.path
            assert "frame-ancestors" in headers["Content-Security-Policy"], route.path
            assert headers["X-Content-Type-Options"] == "nosniff", route.path
            assert headers["Cache-Control"] in ("no-store", "no-cache"), route.path
    assert api.get("/board/files/board.css").headers["Cache-Control"] == "no-cache"
    assert api.get("/no/such/path").headers["Cache-Control"] == "no-store"


def test_an_internal_error_has_security_headers(
    app: FastAPI, api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "parse_events", lambda _: 1 / 0)
    response = api.post("/jobs", json=EVENT)
    assert (response.status_code, response.headers["Cache-Control"]) == (500, "no-store")


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize(
    ("headers", "is_accepted"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Authorization": "Bearer x"}, True),
        ({"Origin": "http://testserver"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "https://events.example"}, True),
    ],
)
def test_a_request_of_another_site_is_rejected(
    api: TestClient,
    first_hive: PracticeHive,
    method: str,
    headers: dict[str, str],
    is_accepted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://events.example/airflow")
    path = "/jobs" if method == "POST" else "/jobs/dump_dna/1"
    response = api.request(method, path, json=EVENT, headers=headers)
    assert (response.status_code != 403) is is_accepted
    if not is_accepted:
        assert response.json()["detail"].startswith("Origin: ")


def test_a_page_of_another_site_may_link_to_the_board(api: TestClient) -> None:
    assert api.get("/board", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


async def test_a_slow_body_is_rejected(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "BODY_SECONDS", 0.2)

    async def send_slowly() -> AsyncIterator[bytes]:
        yield b'{"type": '
        await asyncio.sleep(10)

    async with AsyncClient(transport=ASGITransport(app), base_url="http://testserver") as client:
        headers = {"Content-Type": "application/json"}
        response = await client.post("/jobs", content=send_slowly(), headers=headers)
    assert (response.status_code, response.headers["Connection"]) == (408, "close")
    assert response.json()["detail"] == "body: expected all of it within 0.2 s"


def test_a_request_ends_after_a_time_limit(
    app: FastAPI, api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "REQUEST_SECONDS", 0.2)

    @app.get("/slow")
    async def sleep() -> None:
        await asyncio.sleep(10)

    response = api.get("/slow")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "10")
    assert "within 0.2 s" in response.json()["detail"]
