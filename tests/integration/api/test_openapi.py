"""The OpenAPI document, and responses of the API to generated requests."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings, strategies
from schemathesis import APIOperation
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

CHECKS = [status_code_conformance, response_schema_conformance]


@pytest.fixture
def operations(app: FastAPI) -> list[APIOperation]:
    """All operations of the OpenAPI document; schemathesis loads it once for all requests."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    return [operation.ok() for operation in schema.get_all_operations()]


@pytest.fixture
def document(api: TestClient) -> dict[str, Any]:
    """The OpenAPI document."""
    return dict(api.get("/openapi.json").json())


def test_each_example_body_is_accepted(api: TestClient, document: dict[str, Any]) -> None:
    bodies = [
        (path, example["value"])
        for path, methods in document["paths"].items()
        for content in [methods.get("post", {}).get("requestBody", {}).get("content", {})]
        for example in content.get("application/json", {}).get("examples", {}).values()
    ]
    assert {path for path, _ in bodies} == {"/jobs", "/plan"}
    for path, body in bodies:
        assert api.post(path, json=body).status_code in (200, 201, 202), (path, body)


def test_each_route_documents_its_responses(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            assert {"401", "403"} <= route["responses"].keys(), (method, path)
            assert route["summary"], (method, path)
            assert route["security"], (method, path)


def test_the_documentation_loads_nothing_from_other_hosts(api: TestClient) -> None:
    page = api.get("/apidocs/").text
    assert "//" not in page.replace("</", "").split("<body>")[0].replace("<!DOCTYPE html>", "")
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert f'"/apidocs/{name}"' in page
        assert len(api.get(f"/apidocs/{name}").content) > 10_000
    assert api.get("/apidocs/..%2F..%2Fetc%2Fpasswd").status_code == 404


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(data=strategies.data())
def test_responses_to_generated_requests_match_the_documentation(
    operations: list[APIOperation], data: Any
) -> None:
    operation = data.draw(strategies.sampled_from(operations))
    # Without a running Airflow, /health correctly returns 503.
    checks = CHECKS if operation.path == "/health" else [not_a_server_error, *CHECKS]
    data.draw(operation.as_strategy()).call_and_validate(checks=checks)
