"""
The users of a new installation with FAB's auth manager: an administrator, and the user of follow-up events.

``python -m event_hooks.runtime.fab_users`` creates them; it is idempotent. It uses FAB's security manager, as
the commands ``airflow users`` and ``airflow roles`` of FAB 3.10 do. They would need five processes, and
``airflow roles add-perms`` and ``[fab] custom_roles`` reject the permissions of a DAG that is not parsed yet.
Replace this module when one of them accepts these permissions.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from airflow.utils.providers_configuration_loader import providers_configuration_loaded

from event_hooks import settings

FOLLOW_UPS = "event_hooks"
"""Name of the user in the connection ``event_server``, and of its role."""

PERMISSIONS = (("can_create", f"DAG Run:{settings.DAG_ID}"), ("can_edit", f"DAG:{settings.DAG_ID}"))
"""``POST /event-hooks/jobs`` needs both: FAB requires ``can_edit`` on the DAG of a run that is created."""


@providers_configuration_loaded
def create_users(admin_password: str, follow_ups_password: str) -> None:
    """
    Create the users that are missing, with the roles Admin and ``event_hooks``.

    The password of an existing administrator is not changed. That of the user of follow-up events is, since
    the connection ``event_server`` has it.
    """
    with get_application_builder() as app_builder:
        security: Any = app_builder.sm
        role = security.add_role(FOLLOW_UPS)
        for action, resource in PERMISSIONS:
            security.add_permission_to_role(role, security.create_permission(action, resource))
        _find_or_create_user(security, "admin", security.find_role("Admin"), admin_password)
        user = _find_or_create_user(security, FOLLOW_UPS, role, follow_ups_password)
        if not security.check_password(FOLLOW_UPS, follow_ups_password):
            security.reset_password(user.id, follow_ups_password)


def _find_or_create_user(security: Any, name: str, role: Any, password: str) -> Any:
    return security.find_user(name) or security.add_user(
        name, first_name=name, last_name="user", email=f"{name}@localhost", role=role, password=password
    )


if __name__ == "__main__":
    create_users(os.environ["ADMIN_PASSWORD"], os.environ["EVENT_SERVER_PASSWORD"])
