"""The event API, from its OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from fastapi.routing import APIRoute

from event_hooks.api.app import create_app
from event_hooks.api.openapi import build_document
from event_hooks.api.security import MAY_EDIT, MAY_READ, MAY_TRIGGER
from tools.reference.markdown import format_json, format_table, join_blocks
from tools.reference.schema import describe, describe_type, format_properties

_PERMISSIONS = (("read", MAY_READ), ("trigger", MAY_TRIGGER), ("edit", MAY_EDIT))

Operation = Mapping[str, Any]


@cache
def _load_document() -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """Return the OpenAPI document, and the permission of each operation by its id."""
    app = create_app()
    permissions = {
        route.name: name
        for route in app.routes
        if isinstance(route, APIRoute)
        for name, check in _PERMISSIONS
        if check in route.dependencies
    }
    return build_document(app), permissions


def _list_operations() -> Iterator[tuple[str, Operation]]:
    """Return ``(method and path, operation)`` of all routes in the document."""
    document, _ = _load_document()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def render_routes() -> str:
    """Return a table of all routes."""
    _, permissions = _load_document()
    rows = [
        (
            f"[`{title}`](#{_anchor(title)})",
            _split_description(operation)[0],
            permissions[operation["operationId"]],
        )
        for title, operation in _list_operations()
    ]
    return format_table(("Route", "Effect", "Permission"), rows)


def render_operations() -> str:
    """Return a section for each route: effect, parameters, body and responses."""
    _, permissions = _load_document()
    return join_blocks(
        _render_operation(title, operation, permissions[operation["operationId"]])
        for title, operation in _list_operations()
    )


def _anchor(title: str) -> str:
    """Return the id that the site generates for a heading."""
    kept = "".join(char for char in title.lower() if char.isalnum() or char in " _-")
    return "-".join(kept.split())


def _split_description(operation: Operation) -> tuple[str, str]:
    summary, _, rest = operation["description"].partition("\n\n")
    return summary.strip(), rest.strip()


def _render_operation(title: str, operation: Operation, permission: str) -> str:
    summary, rest = _split_description(operation)
    return join_blocks(
        [
            f"### {title}",
            summary,
            rest,
            f"Permission on `process_event`: {permission}.",
            _render_parameters(operation),
            _render_body(operation),
            _render_responses(operation),
        ]
    )


def _render_parameters(operation: Operation) -> str:
    rows = [
        (
            f"`{item['name']}`",
            item["in"],
            describe_type(item["schema"]),
            describe({**item["schema"], "description": item.get("description", "")}),
        )
        for item in operation.get("parameters", ())
    ]
    return format_table(("Parameter", "In", "Type", "Meaning"), rows) if rows else ""


def _render_body(operation: Operation) -> str:
    if "requestBody" not in operation:
        return ""
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    if properties := format_properties(schema):
        return join_blocks(["Fields of the body:", properties])
    return f"Body: {describe_type(schema)}."


def _render_responses(operation: Operation) -> str:
    """Return the schema and an example of each success, and the statuses of errors."""
    parts, errors = [], []
    for status, response in operation["responses"].items():
        content = response.get("content", {}).get("application/json")
        if status == "503" and content:  # the health of all components
            parts.append(f"**503**: {describe_type(content['schema'])}, if a component is unhealthy.")
        elif status >= "400":
            errors.append(f"`{status}`")
        elif content:
            parts += [f"**{status}**: {describe_type(content['schema'])}", format_json(content["example"])]
        else:
            parts.append(f"**{status}**: {response['description']}")
    return join_blocks([*parts, f"Errors: {', '.join(errors)}." if errors else ""])


def render_schemas() -> str:
    """Return a section for each schema that a body or a response refers to."""
    schemas = _load_document()[0]["components"]["schemas"]
    return join_blocks(
        join_blocks([f"### {name}", schema.get("description", ""), _render_schema(schema)])
        for name, schema in sorted(schemas.items())
    )


def _render_schema(schema: Mapping[str, Any]) -> str:
    return f"Values: {describe_type(schema)}." if "enum" in schema else format_properties(schema)
