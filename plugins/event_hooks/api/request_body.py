"""Read the JSON body of a request, with a limit on its size."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any, NoReturn, TypeVar

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from event_hooks import settings
from event_hooks.events.models import EXTRA_FIELDS_PARAM, Event

M = TypeVar("M", bound=BaseModel)

BODY_SECONDS = 30
"""Maximum time in which a request sends its body."""

_EXAMPLES = {
    "event": {
        "summary": "One event",
        "value": {"type": "new_assembly", "genome": "homo_sapiens", "event_id": "handover-4711"},
    },
    "batch": {
        "summary": "Several events",
        "value": [
            {"type": "new_assembly", "genome": "mus_musculus"},
            {"type": "new_genebuild", "genome": "danio_rerio", "comment": "second try"},
        ],
    },
}


def _build_schemas() -> dict[str, Any]:
    """Return the schema of an event that a user sends, and of its origin."""
    schema = Event.model_json_schema(ref_template="#/components/schemas/{model}")
    causation = schema.pop("$defs")["Causation"]
    properties = schema["properties"]
    del properties["joined"]  # only event hooks sets it
    properties[EXTRA_FIELDS_PARAM] = {
        "type": ["object", "null"],
        "description": "Further fields, which are the same as fields of the event.",
    }
    return {"Event": schema, "Causation": causation}


EVENT_SCHEMAS = _build_schemas()
"""Schemas of the body, for the components of the OpenAPI document."""

_EVENT = {"$ref": "#/components/schemas/Event"}
EVENT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [_EVENT, {"type": "array", "items": _EVENT, "minItems": 1}]},
                "examples": _EXAMPLES,
            }
        },
    }
}
"""The body in OpenAPI. The routes parse it with :func:`read_json` instead of FastAPI, to limit its size."""

COMPARISON_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/ComparisonRequest"},
                "examples": {
                    "event_lookup": {
                        "summary": "Another event lookup",
                        "value": {
                            "since": "30d",
                            "event_lookup": {"new_assembly": ["dump_dna"], "new_genebuild": ["dump_peptide"]},
                        },
                    }
                },
            }
        },
    }
}
"""The body of a comparison in OpenAPI."""


async def read_json(request: Request) -> Any:
    """
    Return the JSON value of a request's body.

    :raises HTTPException: 415 if the Content-Type is not JSON or the body is compressed, 413 if the body is
        longer than the setting ``max_body_bytes``, 408 if it is sent too slowly, 400 if it is not JSON in
        UTF-8, or an object has a key twice.
    """
    content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise HTTPException(
            415, f"Content-Type: expected application/json, not {content_type[:100] or 'an empty value'}"
        )
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise HTTPException(415, "Content-Encoding: expected an uncompressed body")
    body = await read_bytes(request)
    try:
        text = body.decode("utf-8")  # json.loads would accept UTF-16 and UTF-32 as well
        return json.loads(text, parse_constant=_reject_constant, object_pairs_hook=_build_object)
    except RecursionError:
        raise HTTPException(400, "body: expected fewer levels of objects and arrays") from None
    except ValueError as error:
        raise HTTPException(400, f"body: expected JSON: {error}") from None


async def read_model(request: Request, model: type[M]) -> M:
    """
    Return a request's JSON body as a model.

    :raises HTTPException: as :func:`read_json`; 422 if it is not an object.
    :raises RequestValidationError: a field is invalid.
    """
    value = await read_json(request)
    if not isinstance(value, dict):
        raise HTTPException(422, "body: expected an object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None


async def read_bytes(request: Request) -> bytes:
    """
    Return a request's body.

    :raises HTTPException: 413, as soon as it is longer than the setting ``max_body_bytes``; 408 if it is not
        complete within ``BODY_SECONDS``.
    """
    limit, body = settings.max_body_bytes(), bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise HTTPException(413, f"body: expected at most {limit} bytes")
    except TimeoutError:
        message = f"body: expected all of it within {BODY_SECONDS} s"
        raise HTTPException(408, message, {"Connection": "close"}) from None
    return bytes(body)


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Reject a key that occurs twice; Python's parser would keep the last value."""
    value = dict(pairs)
    if len(value) < len(pairs):
        key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {key[:100]!r} occurs twice in an object")
    return value


def _reject_constant(name: str) -> NoReturn:
    """Reject NaN and Infinity, which Python's parser accepts."""
    raise ValueError(f"{name} is not a JSON value")
