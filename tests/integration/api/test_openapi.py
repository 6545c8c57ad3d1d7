"""The OpenAPI document, and responses of the API to generated requests."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import ASGITransport
from hypothesis import HealthCheck, Phase, given, settings, strategies
from jsonschema import Draft202012Validator
from schemathesis import APIOperation
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from tests.support.shapes import SHAPES, measure
from tools.airflow_services import PROGRAMS

MAX_CPU_SECONDS = 2.0
"""CPU time of a request, which other processes do not increase."""

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
    assert {path for path, _ in bodies} == {"/jobs", "/plan", "/plan/compare"}
    for path, body in bodies:
        assert api.post(path, json=body).status_code in (200, 201, 202), (path, body)


def test_each_route_documents_its_responses(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            assert {"401", "403"} <= route["responses"].keys(), (method, path)
            assert route["summary"], (method, path)
            assert route["security"], (method, path)


def test_each_success_and_each_error_has_a_valid_example(document: dict[str, Any]) -> None:
    for operation in list_operations(document):
        for status, response in operation["responses"].items():
            for media_type, content in response.get("content", {}).items():
                schema = {**content["schema"], "components": document["components"]}
                jsonschema.validate(content["example"], schema, Draft202012Validator)
                is_problem = media_type == "application/problem+json"
                is_success = status < "300" or (operation["operationId"], status) == ("check_health", "503")
                assert is_problem != is_success, (operation["operationId"], status)


def test_operations_have_stable_ids_and_states_have_names(document: dict[str, Any]) -> None:
    assert [operation["operationId"] for operation in list_operations(document)] == [
        *("submit_events", "plan_events", "compare_plans"),
        *("list_processes", "list_jobs", "show_job", "stop_job"),
        *("list_events", "list_event_types", "show_event"),
        *("retry_event", "stop_event", "retry_events", "stop_events", "check_health"),
    ]
    schemas = document["components"]["schemas"]
    assert "timed_out" in schemas["ProcessState"]["enum"]
    assert "rejected" in schemas["EventState"]["enum"]
    assert "incomplete" in schemas["JobResponse"]["properties"]["status"]["enum"]
    assert {"force", "reason", "follows", "further_fields"} <= schemas["Event"]["properties"].keys()
    assert "joined" not in schemas["Event"]["properties"]


def test_a_typed_client_is_generated_without_warnings(
    app: FastAPI, document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    command = [PROGRAMS / "openapi-python-client", "generate", "--path", "openapi.json", "--fail-on-warning"]
    result = subprocess.run(
        [*command, "--meta", "none", "--output-path", "typed_client"],
        env={**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}"},  # it formats the client with ruff
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    monkeypatch.syspath_prepend(tmp_path)
    typed_client = importlib.import_module("typed_client")
    list_processes = importlib.import_module("typed_client.api.events.list_processes")
    client = typed_client.Client("http://testserver", httpx_args={"transport": ASGITransport(app)})
    assert "dump_dna" in asyncio.run(list_processes.asyncio(client=client))


def list_operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all operations of the document."""
    return [operation for methods in document["paths"].values() for operation in methods.values()]


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
    case = data.draw(operation.as_strategy())
    assert measure(lambda: case.call_and_validate(checks=checks)) < MAX_CPU_SECONDS


@pytest.mark.parametrize("path", ["/jobs", "/plan"])
@pytest.mark.parametrize("shape", SHAPES)
def test_an_event_of_any_shape_takes_little_time(api: TestClient, path: str, shape: str) -> None:
    body = json.dumps({"type": "nothing", "comment": SHAPES[shape]}, separators=(",", ":"))
    responses = []
    post = lambda: api.post(path, content=body, headers={"Content-Type": "application/json"})  # noqa: E731
    assert measure(lambda: responses.append(post())) < MAX_CPU_SECONDS
    assert responses[0].status_code in (200, 201, 422)
