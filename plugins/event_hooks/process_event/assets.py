"""
The assets of events and processes, on which other DAGs can be scheduled.

``event/<type>`` has an asset event for each received event of a type, and ``process/<name>`` one for each
completed process of an event. The API server registers them (``api/asset_events``), not the tasks: Airflow
registers the asset events of a task only if it succeeds in a worker. A ``wait`` ends in the triggerer, and it
fails if one event of its batch fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import Asset

from event_hooks import settings

if TYPE_CHECKING:
    from event_hooks.events.lookups import Lookups


def event_asset_name(event_type: str) -> str:
    """Return the name of the asset of received events; its URI is the same."""
    return f"event/{event_type}"


def process_asset_name(process: str) -> str:
    """Return the name of the asset of a completed process; its URI is the same."""
    return f"process/{process}"


def build_assets(lookups: Lookups) -> dict[str, dict[str, list[Asset]]]:
    """
    Return the assets of each ``wait``: ``{process: {"inlets": […], "outlets": […]}}``.

    Its inlets are the types of events to which the process reacts. Without the setting ``asset_events``,
    there are none.
    """
    if not settings.asset_events():
        return {process: {} for process in lookups.processes}
    types: dict[str, list[str]] = {process: [] for process in lookups.processes}
    for event_type in lookups.event_types:
        for process in dict.fromkeys(lookups.rules.processes_for(event_type)):
            types[process].append(event_type)
    return {
        process: {
            "inlets": [Asset(event_asset_name(event_type)) for event_type in types[process]],
            "outlets": [Asset(process_asset_name(process))],
        }
        for process in lookups.processes
    }
