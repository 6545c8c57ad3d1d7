"""Read the events of a command from an argument, a file or standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NoReturn


def read_events(source: str | None) -> Any:
    """
    Read JSON: one event, an array of events, or several values in a row (such as JSON lines).

    :param source: JSON that begins with { or [; or a file, with or without @ before its name; or - for
        standard input. None is standard input, too, unless that is a terminal.
    :raises ValueError: names the source and the expected value.
    """
    if source is None and sys.stdin.isatty():
        raise ValueError("event: expected JSON, a file, or JSON on standard input")
    if source in (None, "-"):
        return parse_json_values(sys.stdin.read(), "standard input")
    if source.lstrip()[:1] in ("{", "["):
        return parse_json_values(source, "event")
    file = Path(source.removeprefix("@"))
    try:
        return parse_json_values(file.read_text("utf-8"), str(file))
    except OSError as error:
        raise ValueError(f"event: expected JSON or a file, not {source!r}: {error.strerror}") from None


def read_lookup(file: Path | None, name: str) -> Any:
    """
    Return the content of a lookup file, which the API validates; None without a file.

    :param name: of the option with the file.
    :raises ValueError: names the file and the expected value.
    """
    if file is None:
        return None
    try:
        text = file.read_text("utf-8").removeprefix("\ufeff")
        return json.loads(text, parse_constant=_reject_constant, object_pairs_hook=_reject_duplicates)
    except OSError as error:
        raise ValueError(f"{name}: expected a file, not {str(file)!r}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: {file}: expected JSON: {error}") from None


def parse_json_values(text: str, source: str) -> Any:
    """
    Return the value in a text, or the list of values if there are several.

    :param source: name of the text in error messages.
    :raises ValueError: the text is empty or is not JSON.
    """
    text = text.removeprefix("\ufeff")  # an editor on Windows may write a byte order mark
    decoder, values, rest = json.JSONDecoder(parse_constant=_reject_constant), [], text.lstrip()
    while rest:
        try:
            value, end = decoder.raw_decode(text, len(text) - len(rest))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{source}: expected JSON: {error}") from None
        values.append(value)
        rest = text[end:].lstrip()
    if not values:
        raise ValueError(f"{source}: expected JSON, not an empty text")
    return values[0] if len(values) == 1 else values


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; Python's parser would keep the last value of a key that occurs twice."""
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise ValueError(f"the key {key!r} occurs twice in an object")
        value[key] = item
    return value


def _reject_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
