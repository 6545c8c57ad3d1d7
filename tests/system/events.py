"""The events of tests of the running Airflow, and the content of their reports."""

from __future__ import annotations

import json
from typing import Any


def practice_event(genome: str, event_type: str = "new_assembly", **practice: Any) -> dict[str, Any]:
    """Return an event; ``practice`` controls the practice hive's jobs."""
    return {"type": event_type, "genome": genome, "practice": practice}


def facts(report: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON in a report's message."""
    return dict(json.loads(report["message"].partition(": ")[2]))


def step(report: dict[str, Any]) -> str:
    """Return the step of the event that a report is about."""
    return str(report["params"]["event_hooks"]["step"])
