"""The reference pages, and the functions that render their generated blocks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from event_hooks.ledger.tables import metadata
from tools.reference.api import render_operations, render_routes, render_schemas
from tools.reference.client import render_methods
from tools.reference.command import render_commands, render_common_options
from tools.reference.errors import render_error_classes
from tools.reference.ledger import render_table
from tools.reference.lookups import render_event_lookup, render_process_lookup
from tools.reference.reports import render_collected, render_report_fields, render_report_json, render_steps
from tools.reference.settings import render_settings
from tools.reference.states import render_retry_modes

FOLDER = Path(__file__).parents[2] / "docs" / "reference"

RENDERERS: Mapping[str, Callable[[], str]] = {
    "api_operations": render_operations,
    "api_routes": render_routes,
    "api_schemas": render_schemas,
    "client_methods": render_methods,
    "command_commands": render_commands,
    "command_options": render_common_options,
    "error_classes": render_error_classes,
    "event_lookup": render_event_lookup,
    "process_lookup": render_process_lookup,
    "report_collected": render_collected,
    "report_fields": render_report_fields,
    "report_json": render_report_json,
    "report_steps": render_steps,
    "retry_modes": render_retry_modes,
    "settings": render_settings,
    **{f"table_{name}": partial(render_table, table) for name, table in metadata.tables.items()},
}
"""``{name of a block: function that returns its content}``."""

BLOCK = re.compile(r"(^<!-- generated: (\w+) -->\n)(.*?)(?=^<!-- end -->$)", re.MULTILINE | re.DOTALL)


def render_page(text: str) -> str:
    """
    Return a page with the present content of its generated blocks.

    :raises ValueError: a block has an unknown name.
    """
    return BLOCK.sub(lambda match: f"{match[1]}\n{_render_block(match[2])}\n\n", text)


def list_blocks(text: str) -> list[str]:
    """Return the names of the generated blocks of a page."""
    return [match[2] for match in BLOCK.finditer(text)]


def _render_block(name: str) -> str:
    if name not in RENDERERS:
        raise ValueError(f"generated: expected one of {', '.join(sorted(RENDERERS))}, not {name!r}")
    return RENDERERS[name]()
