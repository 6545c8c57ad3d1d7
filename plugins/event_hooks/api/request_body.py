"""Read the JSON body of a request, with a limit on its size."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from fastapi import HTTPException, Request

from event_hooks import settings

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
_EVENT_SCHEMA = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "minLength": 1},
        "genome": {"type": ["string", "null"]},
        "event_id": {"type": ["string", "integer", "null"]},
    },
    "required": ["type"],
    "additionalProperties": True,
}
EVENT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [_EVENT_SCHEMA, {"type": "array", "items": _EVENT_SCHEMA, "minItems": 1}]
                },
                "examples": _EXAMPLES,
            }
        },
    }
}
"""The body in OpenAPI. The routes parse it with :func:`read_json` instead of FastAPI, to limit its size."""


async def read_json(request: Request) -> Any:
    """
    Return the JSON value of a request's body.

    :raises HTTPException: 415 if the Content-Type is not JSON or the body is compressed, 413 if the body is
        longer than the setting ``max_body_bytes``, 400 if it is not JSON.
    """
    content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise HTTPException(
            415, f"Content-Type: expected application/json, not {content_type[:100] or 'an empty value'}"
        )
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise HTTPException(415, "Content-Encoding: expected an uncompressed body")
    limit, body = settings.max_body_bytes(), bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise HTTPException(413, f"body: expected at most {limit} bytes")
    try:
        return json.loads(body, parse_constant=_reject_constant)
    except RecursionError:
        raise HTTPException(400, "body: expected fewer levels of objects and arrays") from None
    except ValueError as error:
        raise HTTPException(400, f"body: expected JSON: {error}") from None


def _reject_constant(name: str) -> NoReturn:
    """Reject NaN and Infinity, which Python's parser accepts."""
    raise ValueError(f"{name} is not a JSON value")
