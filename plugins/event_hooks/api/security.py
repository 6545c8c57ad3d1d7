"""
Who may do what: Airflow's login, and its permissions on ``process_event``.

Every route names one of the three. Source: Airflow mounts the apps of plugins open, so an app has to ask.
"""

from __future__ import annotations

from typing import Annotated

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from fastapi import Depends

from event_hooks import settings

CHECKS = {
    method: requires_access_dag(method, DagAccessEntity.RUN, settings.DAG_ID)
    for method in ("GET", "POST", "PUT")
}

MAY_READ = Depends(CHECKS["GET"])
MAY_TRIGGER = Depends(CHECKS["POST"])
MAY_EDIT = Depends(CHECKS["PUT"])

User = Annotated[BaseUser, Depends(get_user)]
"""Who asks."""
