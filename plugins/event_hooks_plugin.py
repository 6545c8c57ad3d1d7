"""Registers event hooks with Airflow. The package itself is kept out of Airflow's plugin scan."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin


def trigger_check(app: Any) -> Any:
    """Wrap Airflow's API server; imported here because every other process of Airflow reads this file too."""
    from event_hooks.api.trigger_check import TriggerCheck

    return TriggerCheck(app)


class EventHooksPlugin(AirflowPlugin):
    """What Airflow takes over from event hooks."""

    name = "event_hooks"
    fastapi_root_middlewares = [{"middleware": trigger_check, "name": "event_hooks trigger check"}]
