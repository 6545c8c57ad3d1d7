"""Client of the event API. It needs ``requests``, but not Airflow."""

from event_hooks.client.client import EventClient, JsonObject, load_token, log_in
from event_hooks.client.http import ClientError, RequestRejected, ServerUnreachable

__all__ = [
    "ClientError",
    "EventClient",
    "JsonObject",
    "RequestRejected",
    "ServerUnreachable",
    "load_token",
    "log_in",
]
