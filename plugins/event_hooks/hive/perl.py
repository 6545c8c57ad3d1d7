"""
Values as the Perl text of ``job.input_id``.

An eHive worker runs ``input_id`` through ``eval``, and later replaces ``#name#`` and ``#expr(…)expr#`` inside
the values by what they stand for, which is code again. The first is met by quoting, the second cannot be
quoted and is refused. Source: ``Bio::EnsEMBL::Hive::Params`` and ``Utils::Stringify`` of eHive 2.5 to 2.8.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

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


def loads(text: str) -> Any:
    """
    Read a value that is written as Perl, without running any: what :func:`dumps` and eHive itself write.

    :raises ValueError: if it holds anything else, or more than :data:`MAX_DEPTH` levels.
    """
    tokens = [(match.lastgroup or "", match[0]) for match in _TOKEN.finditer(text)]
    if any(kind == "other" for kind, _ in tokens):
        raise ValueError("expected a Perl hash, array or scalar without code")
    tokens = [token for token in tokens if token[0] != "space"]
    value, end = _value(tokens, 0, 0)
    if end != len(tokens):
        raise ValueError(f"expected one value, not {tokens[end][1]!r} after it")
    return value


_TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<arrow>=>)|(?P<mark>[{}\[\],])
    |(?P<double>"(?:[^"\\$@]|\\.)*")|(?P<single>'(?:[^'\\]|\\.)*')
    |(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<word>[A-Za-z_]\w*)|(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r"\\(?:x\{([0-9a-fA-F]+)\}|x([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "f": "\f", "b": "\b", "a": "\a", "e": "\x1b"}


def _value(tokens: Sequence[tuple[str, str]], at: int, depth: int) -> tuple[Any, int]:
    kind, text = _at(tokens, at)
    if depth > MAX_DEPTH:
        raise ValueError(f"expected at most {MAX_DEPTH} levels")
    if text == "{" and kind == "mark":
        pairs, end = _listed(tokens, at + 1, "}", depth)
        if len(pairs) % 2:
            raise ValueError("expected a value for each key")
        return dict(zip(map(str, pairs[::2]), pairs[1::2], strict=True)), end
    if text == "[" and kind == "mark":
        return _listed(tokens, at + 1, "]", depth)
    match kind:
        case "double":
            return _ESCAPED.sub(_unescaped, text[1:-1]), at + 1
        case "single":
            return re.sub(r"\\([\\'])", r"\1", text[1:-1]), at + 1
        case "number":
            return (int(text) if text.lstrip("-").isdecimal() else float(text)), at + 1
        case "word" if text == "undef":
            return None, at + 1
        case "word" if _at(tokens, at + 1)[0] == "arrow":
            return text, at + 1
    raise ValueError(f"expected a value, not {text!r}")


def _listed(tokens: Sequence[tuple[str, str]], at: int, end: str, depth: int) -> tuple[list[Any], int]:
    values = []
    while _at(tokens, at) != ("mark", end):
        value, at = _value(tokens, at, depth + 1)
        values.append(value)
        if _at(tokens, at) in (("mark", ","), ("arrow", "=>")):
            at += 1
        elif _at(tokens, at) != ("mark", end):
            raise ValueError(f"expected ',' or {end!r}, not {_at(tokens, at)[1]!r}")
    return values, at + 1


def _at(tokens: Sequence[tuple[str, str]], at: int) -> tuple[str, str]:
    return tokens[at] if at < len(tokens) else ("end", "the end")


def _unescaped(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    try:
        return chr(int(code, 16)) if code else _CONTROLS.get(match[3], match[3])
    except (ValueError, OverflowError):
        raise ValueError(f"expected a character, not {match[0]!r}") from None


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
