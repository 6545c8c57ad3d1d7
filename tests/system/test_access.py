"""Login and permissions of the event API: those of Airflow for process_event."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from event_hooks.api.app import create_app
from tests.support.system import System

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


def test_all_routes_are_in_this_test() -> None:
    assert {("POST", "/jobs"), ("DELETE", "/jobs/dump_idle/1"), ("GET", "/board"), ("GET", "/apidocs")} <= {
        *ROUTES
    }


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_requires_login_and_permission(system: System, method: str, path: str) -> None:
    anonymous = system.api(method, path, user=None)
    if path.startswith("/board") and not path.startswith("/board/files"):
        assert anonymous.status_code == 307
        assert anonymous.headers["Location"].startswith("/api/v2/auth/login?next=%2Fevent-hooks%2Fboard")
    else:
        assert (anonymous.status_code, anonymous.headers["WWW-Authenticate"]) == (
            401,
            'Bearer realm="Airflow"',
        )
        assert "POST /auth/token" in anonymous.json()["detail"]
    assert system.api(method, path, "no_role").status_code == 403
    can_read = method == "GET" or path == "/plan"
    assert (system.api(method, path, "viewer").status_code == 403) is not can_read
    assert system.api(method, path, "operator").status_code not in (401, 403)


@pytest.mark.parametrize("token", ["nonsense", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."])
def test_an_invalid_token_is_401(system: System, token: str) -> None:
    response = system.runs._session.get(
        f"{system.airflow.url}/event-hooks/events", headers={"Authorization": f"Bearer {token}"}
    )
    assert response.status_code in (401, 403)


def test_a_viewer_cannot_change_anything(system: System, genome: str) -> None:
    response = system.api("POST", "/jobs", "viewer", json={"type": "idle", "genome": genome})
    assert response.status_code == 403
    assert (
        genome not in system.api("GET", f"/board?genome={genome}").text.split("<main")[1].split("</form>")[1]
    )
