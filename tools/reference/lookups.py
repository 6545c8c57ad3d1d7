"""The fields of the lookups, from their JSON schemas."""

from __future__ import annotations

import json
from typing import Any

from event_hooks.events.lookup_schema import SCHEMAS
from tools.reference.schema import format_properties


def render_event_lookup() -> str:
    """Return the fields of an object in a list of the event lookup."""
    return format_properties(_load("event_lookup")["additionalProperties"]["items"])


def render_process_lookup() -> str:
    """Return the fields of a process."""
    return format_properties(_load("process_lookup")["additionalProperties"])


def _load(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    return schema
