"""Markdown from JSON schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tools.reference.markdown import format_table

Schema = Mapping[str, Any]

_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
}


def format_properties(schema: Schema) -> str:
    """Return a table of the fields of an object; empty if the schema names none."""
    required = schema.get("required", ())
    rows = [
        (f"`{name}`", describe_type(field), "yes" if name in required else "", describe(field))
        for name, field in schema.get("properties", {}).items()
    ]
    return format_table(("Field", "Type", "Required", "Meaning"), rows) if rows else ""


def describe(schema: Schema) -> str:
    """Return description, limits and default of a value."""
    details = [*_list_limits(schema)]
    if schema.get("default") is not None:
        details.append(f"default: `{json.dumps(schema['default'])}`")
    text = schema.get("description", "").replace("<", "&lt;")
    return f"{text} ({'; '.join(details)})" if text and details else text or "; ".join(details)


def _list_limits(schema: Schema) -> Iterator[str]:
    for part in (schema, *schema.get("anyOf", ())):
        for key, text in _LIMITS.items():
            if (limit := part.get(key)) is not None and not _is_trivial(key, limit):
                yield text.format(f"{limit:,}" if isinstance(limit, int) else limit)


def _is_trivial(key: str, limit: Any) -> bool:
    """Return whether a limit is the largest number of a database, or only excludes an empty value."""
    return (key == "maximum" and limit >= 2**31) or (
        key in ("minLength", "minItems", "minimum") and limit <= 1
    )


def describe_type(schema: Schema) -> str:
    """Return the type of a value in words; an object of another schema is a link to its section."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if choices := schema.get("enum") or ([schema["const"]] if "const" in schema else []):
        return " or ".join(f"`{choice}`" for choice in choices)
    if alternatives := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(describe_type(item) for item in alternatives))
    if schema.get("type") == "array":
        return f"list of {describe_type(schema.get('items', {}))}"
    return _describe_simple_type(schema)


def _describe_simple_type(schema: Schema) -> str:
    types = schema.get("type", "any value")
    values = schema.get("additionalProperties")
    if types == "object" and isinstance(values, Mapping):
        return f"object of {describe_type(values)}"
    return types if isinstance(types, str) else " or ".join(types)
