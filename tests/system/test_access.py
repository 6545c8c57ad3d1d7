"""Who may do what over the event API: Airflow's login, and its permissions on process_event."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from event_hooks.api.app import create_app
from tests.support.system import System

EXAMPLES = {"process": "dump_idle", "job_id": "1", "event_id": "1", "name": "board.css"}


def routes() -> Iterator[tuple[str, str]]:
    """Give method and path of whatever the app answers."""
    app: FastAPI = create_app()
    for route in app.routes:
        assert isinstance(route, APIRoute), f"{route}: what is no APIRoute has no check of its own"
        for method in route.methods:
            yield method, route.path.format(**EXAMPLES)


ROUTES = sorted(routes())


def test_all_routes_are_known_here() -> None:
    assert {("POST", "/jobs"), ("DELETE", "/jobs/dump_idle/1"), ("GET", "/board"), ("GET", "/apidocs")} <= {
        *ROUTES
    }


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_answers_who_is_not_logged_in_or_has_no_right(
    system: System, method: str, path: str
) -> None:
    anonymous = system.api(method, path, user=None)
    if path.startswith("/board") and not path.startswith("/board/files"):
        assert anonymous.status_code == 307
        assert anonymous.headers["Location"].startswith("/api/v2/auth/login?next=%2Fevent-hooks%2Fboard")
    else:
        assert (anonymous.status_code, list(anonymous.json())) == (401, ["error"])
    assert system.api(method, path, "stranger").status_code == 403
    may_look = method == "GET" or path == "/plan"
    assert (system.api(method, path, "looker").status_code == 403) is not may_look
    assert system.api(method, path, "operator").status_code not in (401, 403)


@pytest.mark.parametrize("token", ["nonsense", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."])
def test_a_wrong_token_is_nobody(system: System, token: str) -> None:
    answer = system.runs._session.get(
        f"{system.airflow.url}/event-hooks/events", headers={"Authorization": f"Bearer {token}"}
    )
    assert answer.status_code in (401, 403)


def test_who_may_look_changes_nothing(system: System, genome: str) -> None:
    answer = system.api("POST", "/jobs", "looker", json={"type": "idle", "genome": genome})
    assert answer.status_code == 403
    assert (
        genome not in system.api("GET", f"/board?genome={genome}").text.split("<main")[1].split("</form>")[1]
    )
