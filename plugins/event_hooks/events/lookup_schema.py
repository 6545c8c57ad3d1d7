"""Validate the content of a lookup against its JSON schema, with errors that show no password."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, cast

import jsonschema
from jsonschema.validators import extend
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from event_hooks import addresses
from event_hooks.exceptions import LookupInvalid

SCHEMAS = Path(__file__).parent / "schemas"
"""The JSON schemas of the lookup files."""

EXPECTED_URI = f"expected mysql://user:password@host:port/database or sqlite:///file; {addresses.ADVICE}"


MAX_ERRORS = 1000
"""Errors of a lookup of which the first by its key is reported; a search for all may take seconds."""


def check(lookup: dict[str, Any], file: object, schema_name: str) -> None:
    """
    Check the content of a lookup, without the other lookup.

    :param file: name of the lookup in error messages.
    :param schema_name: ``event_lookup`` or ``process_lookup``.
    :raises LookupInvalid: names the first invalid key and the expected value.
    """
    schema = json.loads((SCHEMAS / f"{schema_name}.schema.json").read_text())
    errors = islice(_Validator(schema).iter_errors(lookup), MAX_ERRORS)
    if first := min(errors, key=lambda error: list(map(str, error.absolute_path)), default=None):
        raise LookupInvalid(file, _error_key(first), _error_message(first))
    for name, fields in lookup.items():
        if isinstance(fields, dict) and "hive_uri" in fields and not _is_hive_uri(fields["hive_uri"]):
            raise LookupInvalid(file, f"{name}.hive_uri", EXPECTED_URI)


def _check_unique_items(
    validator: Any, is_required: bool, items: Any, schema: Any
) -> Iterator[jsonschema.ValidationError]:
    """Check the rule ``uniqueItems`` in linear time; jsonschema compares each object with all others."""
    if is_required and isinstance(items, list):
        texts = {json.dumps(item, sort_keys=True) for item in items}
        if len(texts) < len(items):
            yield jsonschema.ValidationError("expected each entry once")


_Validator = extend(jsonschema.Draft202012Validator, {"uniqueItems": _check_unique_items})


def _is_hive_uri(uri: str) -> bool:
    try:
        return addresses.has_single_at(uri) and bool(make_url(uri).database)
    except (ArgumentError, ValueError):
        return False


def _error_key(error: jsonschema.ValidationError) -> str:
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    name = f".{error.instance}" if "propertyNames" in error.absolute_schema_path else ""
    return f"{steps}{name}".removeprefix(".")


def _error_message(error: jsonschema.ValidationError) -> str:
    """Return the expectation of a schema, without the value where it may contain a password."""
    rule, expected = error.validator, error.validator_value
    if rule == "oneOf":
        return "expected either hive_conn_id or hive_uri, and not both"
    if "hive_uri" in error.absolute_path:
        return EXPECTED_URI
    if rule == "pattern":
        shown = str(expected).removesuffix(r"(?!\n)")  # in Python, $ also matches before a line break
        return f"expected a text like {shown}, not {error.instance!r}"
    if rule == "minProperties":
        return "expected at least one entry"
    if rule == "maximum":
        return f"expected a number of at most {expected}, not {error.instance!r}"
    if rule == "exclusiveMinimum":
        return f"expected a number above {expected}, not {error.instance!r}"
    if rule == "type":
        kinds = expected if isinstance(expected, str) else " or ".join(cast("list[str]", expected))
        return f"expected {kinds}, not {type(error.instance).__name__}"
    return str(error.message)
