"""The client of the event API. It needs ``requests``, and nothing of Airflow."""

from event_hooks.client.client import EventClient, load_token, log_in
from event_hooks.client.http import ClientError, RequestRejected, ServerUnreachable

__all__ = ["ClientError", "EventClient", "RequestRejected", "ServerUnreachable", "load_token", "log_in"]
