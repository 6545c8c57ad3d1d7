"""Shorten a report that is too large for the broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from event_hooks.reports.report import METADATA_KEY, format_message, parse_message

MIN_CHARS = 1000
"""Shorter values are never shortened."""

KEPT_FIELDS = ("type", "genome", "event_id", METADATA_KEY)
"""Keys of ``params`` that remain if its values cannot be shortened enough, because there are too many."""


def shorten_body(body: str, max_bytes: int) -> str:
    """
    Shorten the long values of a report that has more than ``max_bytes`` bytes.

    The values are those of ``params``, and of the JSON object in ``message``. This object names the shortened
    values under ``shortened``. If the values are still too long, all but :data:`KEPT_FIELDS` are removed from
    ``params``. The result may have more than ``max_bytes`` bytes if that is below some 20,000.

    :param body: a report, as in :attr:`event_hooks.reports.report.Report.body`.
    """
    shortened = body
    for variant in _generate_variants(body, max_bytes):
        shortened = variant
        if len(shortened) <= max_bytes and len(shortened.encode()) <= max_bytes:
            break
    return shortened


def _generate_variants(body: str, max_bytes: int) -> Iterator[str]:
    """Yield the report, then shorter and shorter forms of it."""
    yield body
    for max_chars in (max_bytes // 8, MIN_CHARS):
        yield _shorten_values(json.loads(body), max(MIN_CHARS, max_chars))
    report = json.loads(body)
    params = report["params"]
    report["params"] = {key: params[key] for key in KEPT_FIELDS if key in params}
    yield _shorten_values(report, MIN_CHARS, removed=["params"])


def _shorten_values(report: dict[str, Any], max_chars: int, removed: list[str] | None = None) -> str:
    title, facts = parse_message(report["message"])
    params = {key: _shorten(value, max_chars) for key, value in report["params"].items()}
    names = [f"params.{key}" for key, value in params.items() if value is not report["params"][key]]
    if isinstance(facts, str):
        message = f"{title}: {_shorten(facts, max_chars)}" if facts else _shorten(title, max_chars)
    else:
        short_facts = {key: _shorten(value, max_chars) for key, value in facts.items()}
        names += [key for key, value in short_facts.items() if value is not facts[key]]
        message = format_message(title, {**short_facts, "shortened": [*(removed or ()), *names]})
    shortened = {**report, "params": params, "message": message}
    return json.dumps(shortened, ensure_ascii=False, separators=(",", ":"))  # the form of Report.body


def _shorten(value: Any, max_chars: int) -> Any:
    """Return a value, or the beginning of its text with the number of characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return value if len(text) <= max_chars else f"{text[:max_chars]}… ({len(text):,} characters)"
