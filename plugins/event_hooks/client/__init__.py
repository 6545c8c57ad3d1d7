"""Client of the event API, with and without an event loop. It does not need Airflow."""

from event_hooks.client.async_client import AsyncEventClient
from event_hooks.client.client import EventClient, load_token, log_in
from event_hooks.client.errors import ClientError, RequestRejected, ServerUnreachable
from event_hooks.client.results import JsonObject

__all__ = [
    "AsyncEventClient",
    "ClientError",
    "EventClient",
    "JsonObject",
    "RequestRejected",
    "ServerUnreachable",
    "load_token",
    "log_in",
]
