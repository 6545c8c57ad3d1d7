"""
Convert values to and from the Perl text of ``job.input_id``.

An eHive worker runs ``input_id`` through ``eval``. Later it replaces ``#name#`` and ``#expr(…)expr#`` inside
the values by parameters or by the result of the expression, which runs code again. Quoting prevents code in
``eval``. It cannot prevent the replacement, so such text is rejected. Source: ``Bio::EnsEMBL::Hive::Params``
and ``Utils::Stringify`` of eHive 2.5 to 2.8.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from event_hooks.exceptions import UnsafeValue
from event_hooks.field_path import FieldPath
from event_hooks.masking import mask_text

MAX_DEPTH = 50
"""Maximum nesting of hashes and arrays: far above real events, and far below Python's recursion limit."""

MAX_SHOWN_CHARACTERS = 100
"""Characters of a rejected text in its error message; the text may have a megabyte."""

_REPLACED_BY_EHIVE = re.compile(r"#[A-Za-z0-9_:\x80-\U0010ffff]+#|#expr\(|\)expr#")
"""
Text that eHive replaces, and more: each character beyond ASCII counts as a letter.

Perl's ``\\w`` also matches combining marks, joiners and enclosed letters, which Python's does not.
"""

_PERL_INTEGERS = range(-(2**63), 2**64)
_CHARACTERS_TO_ESCAPE = re.compile(r'[\\"$@]|[^\x20-\x7e]')


def dumps(value: object, field: FieldPath | None = None) -> str:
    """
    Serialize a value as one line of ASCII Perl; equal values have equal texts.

    Hash keys are sorted. ``True`` and ``False`` become 1 and 0, ``None`` becomes ``undef``, integers that
    Perl would round become strings.

    :param value: a value with the types of JSON: dict, list, str, int, float, bool, ``None``.
    :param field: of the value in error messages.
    :raises UnsafeValue: for a string or key that eHive would evaluate, a lone surrogate, NaN or an infinite
        number, a key that is no string, another type, or more than :data:`MAX_DEPTH` levels.
    """
    return _dump_value(value, field or FieldPath(), 0)


def loads(text: str) -> Any:
    """
    Parse a Perl value that :func:`dumps` or eHive wrote, without running code.

    :raises ValueError: the text contains anything else, or more than :data:`MAX_DEPTH` levels.
    """
    tokens = list(_iter_tokens(text))
    value, end = _parse_value(tokens, 0, 0)
    if end != len(tokens):
        raise ValueError(f"expected one value, not {tokens[end][1]!r} after it")
    return value


_Token = tuple[str, str]
"""``(kind, text)``; the kind is a group of ``_TOKEN``, or ``end``."""

_TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<arrow>=>)|(?P<delimiter>[{}\[\],])
    |(?P<double_quoted>"(?:[^"\\$@]|\\.)*")|(?P<single_quoted>'(?:[^'\\]|\\.)*')
    |(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<identifier>[A-Za-z_]\w*)|(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE_SEQUENCE = re.compile(r"\\(?:x\{([0-9a-fA-F]+)\}|x([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
_CONTROL_CHARACTERS = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "0": "\0",
    "f": "\f",
    "b": "\b",
    "a": "\a",
    "e": "\x1b",
}


def _iter_tokens(text: str) -> Iterator[_Token]:
    """Yield the tokens without spaces, and stop at the first invalid one: each may take long to find."""
    for match in _TOKEN.finditer(text):
        if match.lastgroup == "other":
            raise ValueError("expected a Perl hash, array or scalar without code")
        if match.lastgroup != "space":
            yield str(match.lastgroup), match[0]


def _parse_value(tokens: Sequence[_Token], position: int, depth: int) -> tuple[Any, int]:
    """Parse the value at a position; return it, and the position after it."""
    if depth > MAX_DEPTH:
        raise ValueError(f"expected at most {MAX_DEPTH} levels")
    match _token_at(tokens, position):
        case ("delimiter", "{"):
            items, end = _parse_items(tokens, position + 1, "}", depth)
            if len(items) % 2:
                raise ValueError("expected a value for each key")
            return dict(zip(map(str, items[::2]), items[1::2], strict=True)), end
        case ("delimiter", "["):
            return _parse_items(tokens, position + 1, "]", depth)
    return _parse_scalar(tokens, position), position + 1


def _parse_items(tokens: Sequence[_Token], position: int, closing: str, depth: int) -> tuple[list[Any], int]:
    """Parse values up to a closing bracket; commas and arrows between them are equivalent, as in Perl."""
    items = []
    while _token_at(tokens, position) != ("delimiter", closing):
        item, position = _parse_value(tokens, position, depth + 1)
        items.append(item)
        if _token_at(tokens, position) in (("delimiter", ","), ("arrow", "=>")):
            position += 1
        elif _token_at(tokens, position) != ("delimiter", closing):
            raise ValueError(f"expected ',' or {closing!r}, not {_token_at(tokens, position)[1]!r}")
    return items, position + 1


def _parse_scalar(tokens: Sequence[_Token], position: int) -> Any:
    kind, text = _token_at(tokens, position)
    match kind:
        case "double_quoted":
            return _ESCAPE_SEQUENCE.sub(_unescape, text[1:-1])
        case "single_quoted":
            return re.sub(r"\\([\\'])", r"\1", text[1:-1])
        case "number":
            return int(text) if text.lstrip("-").isdecimal() else float(text)
        case "identifier" if text == "undef":
            return None
        case "identifier" if _token_at(tokens, position + 1)[0] == "arrow":
            return text
    raise ValueError(f"expected a value, not {text!r}")


def _token_at(tokens: Sequence[_Token], position: int) -> _Token:
    return tokens[position] if position < len(tokens) else ("end", "the end")


def _unescape(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    try:
        return chr(int(code, 16)) if code else _CONTROL_CHARACTERS.get(match[3], match[3])
    except (ValueError, OverflowError):
        raise ValueError(f"expected a character, not {match[0]!r}") from None


def _dump_value(value: object, field: FieldPath, depth: int) -> str:
    if depth > MAX_DEPTH:
        raise UnsafeValue(field, f"expected at most {MAX_DEPTH} levels of objects and arrays")
    if isinstance(value, Mapping):
        return _dump_hash(value, field, depth)
    if isinstance(value, list | tuple):
        items = (_dump_value(item, field.child(index), depth + 1) for index, item in enumerate(value))
        return "[" + ",".join(items) + "]"
    return _dump_scalar(value, field)


def _dump_hash(value: Mapping[Any, Any], field: FieldPath, depth: int) -> str:
    for key in value:
        if not isinstance(key, str):
            raise UnsafeValue(field, f"expected keys that are strings, not {key!r}")
    pairs = (
        f"{_quote(key, field)} => {_dump_value(value[key], field.child(key), depth + 1)}"
        for key in sorted(value)
    )
    return "{" + ",".join(pairs) + "}"


def _dump_scalar(value: object, field: FieldPath) -> str:
    if value is None:
        return "undef"
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int):
        return str(value) if value in _PERL_INTEGERS else f'"{value}"'
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UnsafeValue(field, f"expected a finite number, not {value}")
        return repr(value)
    if isinstance(value, str):
        return _quote(value, field)
    raise UnsafeValue(field, f"expected a JSON value, not a {type(value).__name__}")


def _quote(text: str, field: FieldPath) -> str:
    if match := _REPLACED_BY_EHIVE.search(text):
        shown = mask_text(match[0])[:MAX_SHOWN_CHARACTERS]
        raise UnsafeValue(field, f"expected no {shown!r}, which eHive would run as code")
    return '"' + _CHARACTERS_TO_ESCAPE.sub(lambda match: _escape(match[0], field), text) + '"'


def _escape(character: str, field: FieldPath) -> str:
    if character in '\\"$@':
        return "\\" + character
    if "\ud800" <= character <= "\udfff":
        raise UnsafeValue(field, "expected Unicode text, not a lone surrogate")
    return f"\\x{{{ord(character):x}}}"
