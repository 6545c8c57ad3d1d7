"""
Values as the Perl text of ``job.input_id``.

An eHive worker runs ``input_id`` through ``eval``, and later replaces ``#name#`` and ``#expr(…)expr#`` inside
the values by what they stand for, which is code again. The first is met by quoting, the second cannot be
quoted and is refused. Source: ``Bio::EnsEMBL::Hive::Params`` and ``Utils::Stringify`` of eHive 2.5 to 2.8.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from event_hooks.exceptions import UnsafeValue

MAX_DEPTH = 50
"""Hashes and arrays inside one another; far above any real event, far below Python's own limit."""

_EVALUATED = re.compile(r"#[\w:]+#|#expr\(|\)expr#")
_BARE_INTEGERS = range(-(2**63), 2**64)
_TO_ESCAPE = re.compile(r'[\\"$@]|[^\x20-\x7e]')


def dumps(value: object, field: str = "") -> str:
    """
    Write a value as one line of ASCII Perl, the same text for the same value.

    Hash keys are sorted. ``True`` and ``False`` become 1 and 0, None becomes ``undef``, integers that Perl
    would round become strings.

    :param value: what JSON can hold: dict, list, str, int, float, bool, None.
    :param field: name of the value in error messages.
    :raises UnsafeValue: for a string or key that eHive would evaluate, a lone surrogate, NaN or an infinite
        number, a key that is no string, another type, or more than :data:`MAX_DEPTH` levels.
    """
    return _dumps(value, field, 0)


def _dumps(value: object, field: str, depth: int) -> str:
    if depth > MAX_DEPTH:
        raise UnsafeValue(field, f"expected at most {MAX_DEPTH} levels of objects and arrays")
    if isinstance(value, Mapping):
        keys = sorted(_checked_key(key, field) for key in value)
        pairs = (
            f"{_quoted(key, field)} => {_dumps(value[key], _inside(field, key), depth + 1)}" for key in keys
        )
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_dumps(item, f"{field}[{i}]", depth + 1) for i, item in enumerate(value)) + "]"
    return _scalar(value, field)


def _scalar(value: object, field: str) -> str:
    if value is None:
        return "undef"
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int):
        return str(value) if value in _BARE_INTEGERS else f'"{value}"'
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UnsafeValue(field, f"expected a finite number, not {value}")
        return repr(value)
    if isinstance(value, str):
        return _quoted(value, field)
    raise UnsafeValue(field, f"expected a value that JSON has, not a {type(value).__name__}")


def _quoted(text: str, field: str) -> str:
    if found := _EVALUATED.search(text):
        raise UnsafeValue(field, f"expected no {found[0]!r}, which eHive would run as code")
    return '"' + _TO_ESCAPE.sub(lambda match: _escaped(match[0], field), text) + '"'


def _escaped(character: str, field: str) -> str:
    if character in '\\"$@':
        return "\\" + character
    if "\ud800" <= character <= "\udfff":
        raise UnsafeValue(field, "expected Unicode text, not a lone surrogate")
    return f"\\x{{{ord(character):x}}}"


def _checked_key(key: object, field: str) -> str:
    if not isinstance(key, str):
        raise UnsafeValue(field, f"expected keys that are strings, not {key!r}")
    return key


def _inside(field: str, key: str) -> str:
    return f"{field}.{key}" if field else key
