"""Error responses: problem details with all invalid fields."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient

from event_hooks.api import security


def list_fields(problem: dict[str, Any]) -> list[str]:
    """Return the JSON pointer, or the parameter, of each error."""
    return [error.get("pointer", error.get("parameter")) for error in problem["errors"]]


def test_an_error_is_a_problem_with_all_invalid_fields(api: TestClient) -> None:
    response = api.post("/jobs", json={"type": 7, "genome": [], "event_id": {}, "force": "yes"})
    assert (response.status_code, response.headers["Content-Type"]) == (422, "application/problem+json")
    problem = response.json()
    assert (problem["type"], problem["title"], problem["status"]) == (
        "about:blank",
        HTTPStatus.UNPROCESSABLE_ENTITY.phrase,
        422,
    )
    assert problem["detail"] == problem["error"]
    assert problem["detail"] == "type: expected a string that is not empty, not 7 (and 3 more)"
    assert list_fields(problem) == ["/type", "/genome", "/event_id", "/force"]
    assert problem["errors"][1]["detail"] == "expected a string or null, not an empty list"


@pytest.mark.parametrize(
    ("body", "status", "pointers"),
    [
        ([{"type": "nothing"}, {"type": ""}, {"genome": "x"}], 422, ["/1/type", "/2/type"]),
        ([{"type": "nothing", "x": ["#a#"]}, {"type": "unheard_of"}], 422, ["/0/x/0", "/1/type"]),
        ([{"type": "unheard_of"}, {"type": "also"}], 404, ["/0/type", "/1/type"]),
        ([{"type": "unheard_of"}], 404, ["/0/type"]),
        ({"type": "nothing", "a/b~c": {"x": "#a#"}}, 422, ["/a~1b~0c/x"]),
        ({"type": "nothing", "further_fields": {"x": ["#a#"]}}, 422, ["/x/0"]),
        ([{"type": "nothing", "further_fields": 7}], 422, ["/0/further_fields"]),
        ({"type": "nothing", "event_id": ""}, 422, ["/event_id"]),
        ("text", 422, [""]),
        ([{"type": ""}] * 200, 422, [f"/{position}/type" for position in range(100)]),
    ],
)
def test_each_invalid_field_has_a_json_pointer(
    api: TestClient, body: object, status: int, pointers: list[str]
) -> None:
    response = api.post("/jobs", json=body)
    assert (response.status_code, list_fields(response.json())) == (status, pointers)


def test_further_fields_are_the_same_in_one_event_and_in_an_array(api: TestClient) -> None:
    event = {"type": "nothing", "further_fields": {"comment": "x"}}
    single, (item,) = api.post("/jobs", json=event).json(), api.post("/jobs", json=[event]).json()
    assert single["event"] == item["event"] == {"type": "nothing", "comment": "x"}


def test_the_conflict_of_a_batch_names_the_event(api: TestClient) -> None:
    event = {"type": "nothing", "event_id": "1"}
    api.post("/jobs", json=event)
    response = api.post("/jobs", json=[{"type": "nothing"}, {**event, "genome": "other"}])
    assert response.status_code == 409
    assert response.json()["detail"].startswith("events[1].event_id: expected a new key")
    assert list_fields(response.json()) == ["/1/event_id"]


def test_an_invalid_parameter_is_named(api: TestClient) -> None:
    problem = api.get("/jobs/dump_dna?limit=0&before=x").json()
    assert list_fields(problem) == ["limit", "before"]


@pytest.mark.parametrize(
    ("path", "allowed"), [("/jobs", "POST"), ("/jobs/dump_dna/1", "DELETE, GET"), ("/events", "GET")]
)
def test_an_unknown_method_names_the_methods(api: TestClient, path: str, allowed: str) -> None:
    response = api.put(path)
    assert (response.status_code, response.headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("status", "detail", "expected"),
    [
        (401, "Not authenticated", "not logged in: log in to Airflow, or send a token of POST /auth/token"),
        (401, "Token Expired", "the token has expired: log in"),
        (403, "Invalid JWT token", "the token is invalid: log in"),
    ],
)
def test_a_missing_or_wrong_token_is_explained(
    app: FastAPI, api: TestClient, status: int, detail: str, expected: str
) -> None:
    def reject() -> None:
        raise HTTPException(status, detail)

    app.dependency_overrides[security.PERMISSION_CHECKS["GET"]] = reject
    response = api.get("/events")
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, 'Bearer realm="Airflow"')
    assert response.json()["detail"].startswith(expected)
