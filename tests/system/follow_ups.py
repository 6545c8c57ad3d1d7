"""The events of a genome, read by the event API."""

from __future__ import annotations

from typing import Any

from tests.support.system import WAIT_SECONDS, System


def load_events(system: System, genome: str) -> list[dict[str, Any]]:
    """Return the events of a genome, the oldest first."""
    page = system.api("GET", f"/board?genome={genome}").text
    ids = sorted({int(part.split('"')[0]) for part in page.split("/board/events/")[1:]})
    return [system.api("GET", f"/events/{event_id}").json() for event_id in ids]


def wait_until_finished(system: System, genome: str, count: int) -> list[dict[str, Any]]:
    """Wait until a genome has ``count`` events and all have finished; return them."""
    finished = lambda: [event["is_finished"] for event in load_events(system, genome)]  # noqa: E731
    system.runs.wait_until(
        lambda: finished() == [True] * count, 2 * WAIT_SECONDS, lambda: str(load_events(system, genome))
    )
    return load_events(system, genome)
