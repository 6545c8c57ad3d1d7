"""
Permission checks, by Airflow's login and its permissions on ``process_event``, and security headers.

Every route names one of the three checks, because Airflow mounts the apps of plugins without any.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from event_hooks import settings
from event_hooks.runtime.api_server import BaseUser, get_user, require_run_permission

PERMISSION_CHECKS = {
    method: require_run_permission(method, settings.DAG_ID) for method in ("GET", "POST", "PUT")
}

MAY_READ = Depends(PERMISSION_CHECKS["GET"])
MAY_TRIGGER = Depends(PERMISSION_CHECKS["POST"])
MAY_EDIT = Depends(PERMISSION_CHECKS["PUT"])

User = Annotated[BaseUser, Depends(get_user)]
"""The user that sent the request."""

RESPONSE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of each response that does not set them itself."""
