"""Login and permissions, with both auth managers: SimpleAuthManager of `make up`, FAB's of a team."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
import requests
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import create_engine, text

from event_hooks.api.app import create_app
from event_hooks.runtime.fab_users import FOLLOW_UPS
from tests.support.fab_server import PASSWORD, PASSWORDS, ApiServer, FabServer
from tests.support.shapes import SHAPES
from tests.support.system import WAIT_SECONDS, System

EXAMPLES = {"process": "dump_idle", "job_id": "1", "event_id": "1", "name": "board.css"}


def list_routes() -> Iterator[tuple[str, str]]:
    """Return method and path of each route of the app."""
    app: FastAPI = create_app()
    for route in app.routes:
        assert isinstance(route, APIRoute), (
            f"{route}: a route that is not an APIRoute has no permission check"
        )
        for method in route.methods:
            yield method, route.path.format(**EXAMPLES)


ROUTES = sorted(list_routes())
RUNS = "/api/v2/dags/process_event/dagRuns"
STATUSES = {"admin": 400, "operator": 400, "viewer": 403, "no_role": 403, None: 401}
"""``{user: status of a request to trigger an invalid event}``."""

MAX_SECONDS = 5
"""Time of a request that takes less than a second of CPU time, while other tests use the processors."""


@pytest.fixture(scope="module")
def fab(system: System) -> Iterator[FabServer]:
    """The API server with FAB's auth manager."""
    server = FabServer(system.installation)
    try:
        server.start()
        yield server
    finally:
        server.services.kill("api-server")


@pytest.fixture(scope="module", params=["simple", "fab"])
def server(request: pytest.FixtureRequest, system: System) -> ApiServer:
    """An API server with each of the auth managers."""
    if request.param == "fab":
        return request.getfixturevalue("fab")
    return ApiServer(system.airflow.url, system.airflow.log_in)


def test_all_routes_are_in_this_test() -> None:
    assert {("POST", "/jobs"), ("DELETE", "/jobs/dump_idle/1"), ("GET", "/board"), ("GET", "/apidocs")} <= {
        *ROUTES
    }


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_requires_login_and_permission(server: ApiServer, method: str, path: str) -> None:
    status_of = lambda user: server.request(method, f"/event-hooks{path}", user).status_code  # noqa: E731
    anonymous = server.request(method, f"/event-hooks{path}", None)
    if path.startswith("/board") and not path.startswith("/board/files"):
        assert anonymous.status_code == 307
        assert anonymous.headers["Location"].startswith("/api/v2/auth/login?next=%2Fevent-hooks%2Fboard")
    else:
        assert (anonymous.status_code, anonymous.headers["WWW-Authenticate"]) == (
            401,
            'Bearer realm="Airflow"',
        )
        assert "POST /auth/token" in anonymous.json()["detail"]
    assert status_of("no_role") == 403
    can_read = method == "GET" or path in ("/plan", "/plan/compare")
    assert (status_of("viewer") == 403) is not can_read
    assert status_of("operator") not in (401, 403)
    assert status_of("admin") not in (401, 403)


@pytest.mark.parametrize("token", ["nonsense", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."])
def test_an_invalid_token_is_rejected(server: ApiServer, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    response = requests.get(f"{server.url}/event-hooks/events", headers=headers, timeout=WAIT_SECONDS)
    assert response.status_code == 401


def test_a_revoked_token_is_rejected(system: System) -> None:
    """The API server has verified it, and verifies it again after some seconds."""
    headers = {"Authorization": f"Bearer {system.airflow.log_in()}"}

    def get(path: str) -> int:
        url = f"{system.airflow.url}{path}"
        return requests.get(url, headers=headers, timeout=WAIT_SECONDS, allow_redirects=False).status_code

    assert get("/event-hooks/events") == 200
    assert get("/api/v2/auth/logout") == 307
    system.wait(lambda: get("/event-hooks/events") == 401, lambda: "the token is still valid")


@pytest.mark.parametrize("user", ["admin", "operator"])
def test_an_invalid_event_is_rejected_when_a_run_is_triggered(server: ApiServer, user: str) -> None:
    body = {"logical_date": None, "conf": {"type": "new_asembly"}}
    response = server.request("POST", RUNS, user, json=body)
    assert (response.status_code, "new_assembly" in response.text) == (400, True)


@pytest.mark.parametrize(("user", "status"), [(None, 401), ("no_role", 403), ("viewer", 403)])
def test_validation_errors_are_hidden_without_the_permission_to_trigger(
    server: ApiServer, user: str | None, status: int
) -> None:
    body = {"logical_date": None, "conf": {"type": "new_asembly"}}
    response = server.request("POST", RUNS, user, json=body)
    assert (response.status_code, "type" in response.json()["detail"]) == (status, False)


@pytest.mark.parametrize("user", ["admin", "operator"])
@pytest.mark.parametrize("run_id", ["api__1", "joined__1", "collect__1", "API__1", " api__1"])
def test_no_user_starts_a_run_with_an_id_of_event_hooks(server: ApiServer, user: str, run_id: str) -> None:
    body = {"logical_date": None, "dag_run_id": run_id, "conf": {"type": "new_assembly"}}
    response = server.request("POST", RUNS, user, json=body)
    assert (response.status_code, response.json()["detail"][:12]) == (400, "dag_run_id: ")


@pytest.mark.parametrize("header", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}])
def test_a_page_of_another_site_cannot_trigger_a_run(server: ApiServer, header: dict[str, str]) -> None:
    send = lambda headers: requests.post(  # noqa: E731
        f"{server.url}{RUNS}",
        json={"logical_date": None, "conf": {"type": "new_asembly"}},
        headers=headers,
        cookies={"_token": server.token("admin")},
        timeout=WAIT_SECONDS,
    )
    answer = send(header)
    assert (answer.status_code, answer.json()["detail"]) == (403, "Origin: expected a page of this site")
    assert send({}).status_code == 400


@pytest.mark.parametrize("path", [RUNS, "/event-hooks/jobs"])
@pytest.mark.parametrize("shape", ["a long key before a long list", "long keys before lists", "a wide list"])
def test_a_body_of_any_shape_gets_its_response_soon(server: ApiServer, path: str, shape: str) -> None:
    """Before, a user without a role got 403 after 30 s, and all other requests waited."""
    event = {"type": "new_asembly", "comment": SHAPES[shape]}
    fields = {"logical_date": None, "conf": event} if path == RUNS else event
    body = json.dumps(fields, separators=(",", ":"))
    headers = {"Content-Type": "application/json"}
    for user, status in STATUSES.items():
        response = server.request("POST", path, user, data=body, headers=headers)
        assert response.status_code == (404 if status == 400 and path != RUNS else status), user
        assert response.elapsed.total_seconds() < MAX_SECONDS


def test_a_viewer_cannot_change_anything(system: System, server: ApiServer, genome: str) -> None:
    event = {"type": "idle", "genome": genome}
    assert server.request("POST", "/event-hooks/jobs", "viewer", json=event).status_code == 403
    assert system.ledger_rows("SELECT id FROM event WHERE genome = :genome", genome=genome) == []


def test_the_user_of_follow_up_events_can_submit_events(server: ApiServer) -> None:
    response = server.request("POST", "/event-hooks/jobs", FOLLOW_UPS, json={"type": "new_asembly"})
    assert (response.status_code, "new_assembly" in response.text) == (404, True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/event-hooks/jobs/dump_idle/1"),
        ("GET", "/event-hooks/board"),
        ("GET", "/event-hooks/events"),
        ("GET", RUNS),
        ("PATCH", f"{RUNS}/a_run"),
        ("GET", "/api/v2/dags/process_event"),
        ("DELETE", "/api/v2/dags/process_event"),
        ("GET", "/api/v2/dags"),
        ("POST", "/api/v2/dags/maintain_ledger/dagRuns"),
        ("PATCH", "/api/v2/dags/maintain_ledger"),
        ("GET", "/api/v2/dags/maintain_ledger/dagRuns"),
        ("GET", "/api/v2/connections"),
        ("GET", "/api/v2/variables"),
        ("GET", "/api/v2/pools"),
        ("GET", "/auth/fab/v1/users"),
    ],
)
def test_with_fab_the_user_of_follow_up_events_can_do_nothing_else(
    fab: FabServer, method: str, path: str
) -> None:
    bodies = {"POST": {"logical_date": None}, "PATCH": {}}
    assert fab.request(method, path, FOLLOW_UPS, json=bodies.get(method)).status_code == 403


@pytest.mark.parametrize("path", ["/api/v2/connections", "/api/v2/variables"])
def test_an_operator_and_the_user_of_follow_up_events_read_no_secrets(server: ApiServer, path: str) -> None:
    statuses = [server.request("GET", path, user).status_code for user in (FOLLOW_UPS, "operator", "admin")]
    assert statuses == [403, 403, 200]


@pytest.mark.parametrize("change", ["deactivated", "deleted"])
def test_the_token_of_a_user_that_was_removed_is_rejected(
    system: System, fab: FabServer, genome: str, change: str
) -> None:
    fab.create_user(genome, "Viewer")
    status_of = lambda: fab.request("GET", "/event-hooks/events", genome).status_code  # noqa: E731
    assert status_of() == 200
    if change == "deleted":
        assert fab.request("DELETE", f"/auth/fab/v1/users/{genome}", "admin").status_code == 204
    else:
        with create_engine(system.airflow.databases[0].url).begin() as database:
            statement = "UPDATE ab_user SET active = FALSE WHERE username = :name"
            assert database.execute(text(statement), {"name": genome}).rowcount == 1
    system.wait(lambda: status_of() == 401, status_of)
    with pytest.raises(requests.HTTPError, match="401"):
        fab.log_in(genome)


def test_creating_the_users_again_changes_only_the_password_of_follow_up_events(fab: FabServer) -> None:
    login = {user: [fab.is_password(user, password) for password in PASSWORDS[user]] for user in PASSWORDS}
    assert login == {"admin": [True, False], FOLLOW_UPS: [False, True]}


def test_login_in_a_browser_leads_back_to_the_event_board(fab: FabServer) -> None:
    browser = requests.Session()
    board = browser.get(f"{fab.url}/event-hooks/board", timeout=WAIT_SECONDS)
    assert board.url == f"{fab.url}/auth/login/?next=%2Fevent-hooks%2Fboard"
    (csrf_token,) = re.findall(r'name="csrf_token"[^>]*value="([^"]+)"', board.text)
    form = {"username": "viewer", "password": PASSWORD, "csrf_token": csrf_token}
    answer = browser.post(board.url, data=form, timeout=WAIT_SECONDS, allow_redirects=False)
    assert answer.headers["Location"] == f"{fab.url}/event-hooks/board"
    cookies = {cookie.name: cookie for cookie in browser.cookies}
    assert cookies.keys() == {"_token", "session"}
    for cookie in cookies.values():
        assert cookie.has_nonstandard_attr("HttpOnly")
        assert cookie.get_nonstandard_attr("SameSite") == "Lax"
    assert browser.get(answer.headers["Location"], timeout=WAIT_SECONDS).status_code == 200
