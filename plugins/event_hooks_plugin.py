"""Registers event hooks with Airflow. The package itself is kept out of Airflow's plugin scan."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin


def trigger_check(app: Any) -> Any:
    """Wrap Airflow's API server; imported here because every other process of Airflow reads this file too."""
    from event_hooks.api.trigger_validation import TriggerValidation

    return TriggerValidation(app)


class EventHooksPlugin(AirflowPlugin):
    """What Airflow takes over from event hooks."""

    name = "event_hooks"
    external_views = [
        {
            "name": "Events",
            "href": "/event-hooks/board",
            "destination": "nav",
            "url_route": "event-board",
            "nav_top_level": True,
        }
    ]
    fastapi_root_middlewares = [{"middleware": trigger_check, "name": "event_hooks trigger check"}]

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Import at a process's start what those that it forks need."""
        import event_hooks.runtime.preload  # noqa: F401

    @property
    def operator_extra_links(self) -> list[Any]:  # type: ignore[override]
        """Name the links, so that Airflow's pages know them."""
        from event_hooks.process_event.links import LINKS

        return list(LINKS)

    @property
    def deadline_references(self) -> list[Any]:  # type: ignore[override]
        """Register the reference of our deadlines, which Airflow reads from the serialized DAG."""
        from event_hooks.process_event.deadlines import RunCreation

        return [RunCreation]

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]  # made only where it is asked for
        """Mount ``/event-hooks``."""
        from event_hooks.api.app import create_app

        return [{"app": create_app(), "url_prefix": "/event-hooks", "name": "event_hooks"}]
