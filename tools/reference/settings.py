"""The settings, from their declarations."""

from __future__ import annotations

from typing import Any

from event_hooks.settings import SETTINGS, Setting
from tools.reference.markdown import format_table


def render_settings() -> str:
    """Return the table of all settings."""
    return format_table(("Name", "Also", "Default", "Meaning"), map(_build_row, SETTINGS.values()))


def _build_row(setting: Setting[Any]) -> tuple[str, ...]:
    aliases = ", ".join(f"`{alias}`" for alias in setting.aliases)
    return f"`{setting.name}`", aliases, setting.default_text or f"`{setting.default}`", setting.description
