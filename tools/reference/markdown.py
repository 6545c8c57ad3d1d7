"""Markdown from declarations: tables, code blocks, and texts of docstrings."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

_ROLE = re.compile(r":\w+:`~?!?([^`]+)`")
_FIELD = re.compile(r"^:(?:(param|raises) (\w+)|return):", re.MULTILINE)


def format_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a cell may have Markdown, and line breaks become blanks."""
    lines = [_format_row(columns), _format_row(["---"] * len(columns)), *map(_format_row, rows)]
    return "\n".join(lines)


def _format_row(cells: Sequence[str]) -> str:
    return "".join(f"| {escape_cell(cell)} " if cell else "| " for cell in cells) + "|"


def escape_cell(text: str) -> str:
    """Return a text as one line in which no character ends the cell."""
    return re.sub(r"\s+", " ", text.strip()).replace("|", r"\|")


def format_json(value: Any) -> str:
    """Return a code block of a JSON value."""
    return format_code(json.dumps(value, indent=2, ensure_ascii=False), "json")


def format_code(text: str, language: str) -> str:
    """Return a code block."""
    return f"```{language}\n{text}\n```"


def join_blocks(blocks: Iterable[str]) -> str:
    """Return blocks of Markdown with an empty line between two; empty blocks are left out."""
    return "\n\n".join(filter(None, blocks))


def convert_text(text: str) -> str:
    """Return a text in reStructuredText, without fields, as Markdown."""
    return _ROLE.sub(r"`\1`", text).replace("``", "`").replace("<", "&lt;")


def convert_docstring(docstring: str) -> str:
    """Return a docstring as Markdown: its text, and a list of its fields."""
    text = inspect.cleandoc(docstring)
    starts = [match.start() for match in _FIELD.finditer(text)] or [len(text)]
    fields = [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
    items = "\n".join(_convert_field(field) for field in fields if field)
    return join_blocks([convert_text(text[: starts[0]]).strip(), items])


def _convert_field(field: str) -> str:
    match = _FIELD.match(field)
    if match is None:
        raise ValueError(
            f"field of a docstring: expected :param name:, :return: or :raises name:, not {field!r}"
        )
    kind, name = match.groups()
    title = {"param": f"`{name}`", "raises": f"Raises `{name}`"}.get(kind, "Returns")
    return f"- {title}: {escape_cell(convert_text(field[match.end() :]))}"
