"""Events as people give them to a command: as text, in a file, or piped in."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NoReturn


def read_events(source: str | None) -> Any:
    """
    Read JSON: one event, an array of them, or one after the other (as in JSON lines).

    :param source: JSON that begins with { or [; a file, with or without @ before it; - for what is piped in,
        as is None.
    :raises ValueError: names the place, and what was expected there.
    """
    if source is None and sys.stdin.isatty():
        raise ValueError("event: expected JSON, a file, or something piped in")
    if source in (None, "-"):
        return parse(sys.stdin.read(), "standard input")
    if source.lstrip()[:1] in ("{", "["):
        return parse(source, "event")
    file = Path(source.removeprefix("@"))
    try:
        return parse(file.read_text(), str(file))
    except OSError as error:
        raise ValueError(f"event: expected JSON or a file, not {source!r}: {error.strerror}") from None


def parse(text: str, where: str) -> Any:
    """
    Give the value in a text, or a list of its values if there are several.

    :param where: how errors name the text.
    :raises ValueError: says what is no JSON.
    """
    decoder, values, rest = json.JSONDecoder(parse_constant=_no_json), [], text.lstrip()
    while rest:
        try:
            value, end = decoder.raw_decode(text, len(text) - len(rest))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: expected JSON: {error}") from None
        values.append(value)
        rest = text[end:].lstrip()
    if not values:
        raise ValueError(f"{where}: expected JSON, found nothing")
    return values[0] if len(values) == 1 else values


def _no_json(word: str) -> NoReturn:
    raise ValueError(f"{word} is none")
