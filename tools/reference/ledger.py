"""The tables of the ledger, from ``event_hooks.ledger.tables``; its comments explain the columns."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TypeGuard

from sqlalchemy import Column, Table  # noqa: TC002
from sqlalchemy.dialects import postgresql

from event_hooks.ledger import tables
from tools.reference.markdown import convert_text, format_table, join_blocks


def render_table(table: Table) -> str:
    """Return the columns and indexes of a table."""
    comments = _load_comments()[table.name]
    rows = [_build_row(column, comments.get(column.name, "")) for column in table.columns]
    unique = sorted(
        (f"`{index.name}` is unique: {', '.join(f'`{column.name}`' for column in index.columns)}.")
        for index in table.indexes
        if index.unique
    )
    return join_blocks([format_table(("Column", "Type", "Null", "Meaning"), rows), " ".join(unique)])


def _build_row(column: Column[object], comment: str) -> tuple[str, ...]:
    type_name = column.type.compile(dialect=postgresql.dialect()).lower()
    key = "primary key" if column.primary_key else "unique" if column.unique else ""
    targets = [f"references `{item.target_fullname}`" for item in column.foreign_keys]
    meaning = "; ".join(filter(None, [key, *targets, convert_text(comment)]))
    null = "yes" if column.nullable else ""
    return f"`{column.name}`", type_name.removesuffix(" without time zone"), null, meaning


@cache
def _load_comments() -> Mapping[str, Mapping[str, str]]:
    """Return ``{table: {column: comment}}``: the comments above the column and at the end of its line."""
    source = Path(tables.__file__).read_text()
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    whole_lines = {line for line in comments if source.splitlines()[line - 1].lstrip().startswith("#")}
    return {
        _name(table): {
            _name(column): _find_comment(column.lineno, comments, whole_lines) for column in columns
        }
        for table, columns in _list_calls(ast.parse(source))
    }


def _list_calls(tree: ast.Module) -> list[tuple[ast.Call, list[ast.Call]]]:
    """Return the calls of ``Table``, each with its calls of ``Column``."""
    values = (node.value for node in tree.body if isinstance(node, ast.Assign))
    return [
        (call, [item for item in call.args if _is_call(item, "Column")])
        for call in values
        if _is_call(call, "Table")
    ]


def _is_call(node: ast.expr, name: str) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def _name(call: ast.Call) -> str:
    return str(ast.literal_eval(call.args[0]))


def _find_comment(line: int, comments: Mapping[int, str], whole_lines: set[int]) -> str:
    first = line
    while first - 1 in whole_lines:
        first -= 1
    return " ".join(comments[number] for number in range(first, line + 1) if number in comments)
