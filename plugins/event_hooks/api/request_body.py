"""The body of a request: JSON, of limited size."""

from __future__ import annotations

import json
from typing import Any

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
_EVENT = {
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
                "schema": {"anyOf": [_EVENT, {"type": "array", "items": _EVENT, "minItems": 1}]},
                "examples": _EXAMPLES,
            }
        },
    }
}
"""What OpenAPI shows of it: the routes read the body themselves, to limit it before it is read."""


async def read_json(request: Request) -> Any:
    """
    Read the body of a request.

    :raises HTTPException: 415 if it is not called JSON, 413 if it is too long, 400 if it is not JSON.
    """
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"Content-Type: expected application/json, not {kind[:100] or 'nothing'}")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise HTTPException(415, "Content-Encoding: expected none")
    limit, body = settings.max_body_bytes(), bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise HTTPException(413, f"body: expected at most {limit} bytes")
    try:
        return json.loads(body, parse_constant=_no_json)
    except RecursionError:
        raise HTTPException(400, "body: expected fewer levels of objects and arrays") from None
    except ValueError as error:
        raise HTTPException(400, f"body: expected JSON: {error}") from None


def _no_json(word: str) -> None:
    raise ValueError(f"{word} is none")
