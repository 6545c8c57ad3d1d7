"""The Python client, from the source of its class."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

from event_hooks.client import client
from tools.reference.markdown import convert_docstring, format_code, join_blocks


def render_methods() -> str:
    """Return a section for the class, each public method, and the function ``log_in``."""
    tree = ast.parse(Path(client.__file__).read_text())
    [class_node] = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    constructor, *methods = _list_functions(class_node)
    sections = [_render(class_node.name, [constructor], ast.get_docstring(class_node))]
    for name in dict.fromkeys(method.name for method in methods if not method.name.startswith("_")):
        # The last definition is the implementation; those before it are overloads.
        *overloads, method = [node for node in methods if node.name == name]
        sections.append(_render(name, overloads or [method], ast.get_docstring(method)))
    [log_in] = [node for node in _list_functions(tree) if node.name == client.log_in.__name__]
    return join_blocks([*sections, _render(log_in.name, [log_in], ast.get_docstring(log_in))])


def _list_functions(node: ast.Module | ast.ClassDef) -> list[ast.FunctionDef]:
    return [item for item in node.body if isinstance(item, ast.FunctionDef)]


def _render(name: str, definitions: Iterable[ast.FunctionDef], docstring: str | None) -> str:
    code = "\n".join(_format_signature(name, node) for node in definitions)
    return join_blocks([f"### {name}", format_code(code, "python"), convert_docstring(docstring or "")])


def _format_signature(name: str, node: ast.FunctionDef) -> str:
    arguments = ast.unparse(node.args).removeprefix("self").removeprefix(", ")
    result = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    return f"{name}({arguments}){result}"
