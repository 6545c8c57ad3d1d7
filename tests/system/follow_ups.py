"""The events of a genome, as the event API shows them."""

from __future__ import annotations

from typing import Any

from tests.support.system import LIMIT, System


def events_of(system: System, genome: str) -> list[dict[str, Any]]:
    """Return the events of a genome, the oldest first."""
    page = system.api("GET", f"/board?genome={genome}").text
    ids = sorted({int(part.split('"')[0]) for part in page.split("/board/events/")[1:]})
    return [system.api("GET", f"/events/{event_id}").json() for event_id in ids]


def until_finished(system: System, genome: str, count: int) -> list[dict[str, Any]]:
    """Wait until a genome has so many events and all have finished; return them."""
    finished = lambda: [event["is_finished"] for event in events_of(system, genome)]  # noqa: E731
    system.runs.until(lambda: finished() == [True] * count, 2 * LIMIT, lambda: str(events_of(system, genome)))
    return events_of(system, genome)
