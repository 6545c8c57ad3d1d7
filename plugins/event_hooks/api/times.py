"""Times in requests: in ISO 8601, or as a duration before now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from event_hooks.events.rules import parse_seconds
from event_hooks.exceptions import EventInvalid
from event_hooks.masking import mask_text

EXPECTED_TIME = "a time in ISO 8601 with a time zone, or a duration such as 45m, 12h or 30d before now"


def parse_time(name: str, text: str, now: datetime) -> datetime:
    """
    Return a time from a text in ISO 8601, or from a duration before ``now``.

    :param name: of the field, for the error.
    :raises EventInvalid: names the field and the expected value.
    """
    try:
        return _parse_duration_or_time(text, now)
    except (ValueError, OverflowError):
        shown = mask_text(text)[:100]
        raise EventInvalid(name, f"expected {EXPECTED_TIME}, not {shown!r}") from None


def _parse_duration_or_time(text: str, now: datetime) -> datetime:
    try:
        return now - timedelta(seconds=parse_seconds(text))
    except ValueError:
        time = datetime.fromisoformat(text)
    if time.utcoffset() is None:
        raise ValueError(text)
    return time.astimezone(UTC)
