"""Registers event hooks with Airflow; `.airflowignore` excludes the package itself from the plugin scan."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin


def wrap_api_server(app: Any) -> Any:
    """Wrap Airflow's API server; imported here because every process of Airflow imports this file."""
    from event_hooks.api.trigger_validation import TriggerValidation

    return TriggerValidation(app)


class EventHooksPlugin(AirflowPlugin):
    """The app, middleware and links of event hooks."""

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
    fastapi_root_middlewares = [{"middleware": wrap_api_server, "name": "event_hooks trigger validation"}]

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Import the modules that forked processes need, when Airflow loads the plugin."""
        import event_hooks.runtime.preload  # noqa: F401

    @property
    def operator_extra_links(self) -> list[Any]:  # type: ignore[override]
        """Register the links of tasks for Airflow's pages."""
        from event_hooks.process_event.links import LINKS

        return list(LINKS)

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]  # only the API server reads it
        """Mount ``/event-hooks``."""
        from event_hooks.api.app import create_app

        return [{"app": create_app(), "url_prefix": "/event-hooks", "name": "event_hooks"}]
