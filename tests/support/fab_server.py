"""A second API server of the tests' Airflow, with FAB's auth manager; only API servers read its setting."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from tests.support.airflow_settings import USERS
from tests.support.installation import Installation
from tools.airflow_api import AirflowApi
from tools.airflow_services import AirflowServices
from tools.processes import ProcessFolder

FAB_AUTH_MANAGER = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
SHARED_SETTINGS = (
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    "AIRFLOW_CONN_EVENT_LEDGER",
)
START_SECONDS = 120
REQUEST_SECONDS = 60

ROLES = {"admin": "Admin", "user": "User", "viewer": "Viewer", "": "Public"}
"""``{role of SimpleAuthManager: role of FAB}``; FAB's role Public has no permission."""

PASSWORD, EARLIER, LATER = (secrets.token_hex(8) for _ in range(3))
PASSWORDS = {
    "admin": [PASSWORD, LATER],
    "event_hooks": [EARLIER, PASSWORD],
}
"""``{user: its passwords in the first and the second set-up}``."""

SET_UP = f"""
import os, runpy
for admin, event_hooks in zip(*{list(PASSWORDS.values())}):
    os.environ.update(ADMIN_PASSWORD=admin, EVENT_SERVER_PASSWORD=event_hooks)
    runpy.run_module("event_hooks.runtime.fab_users", run_name="__main__")
"""
"""Creates the users twice, in one process: the service ``set-up`` runs at each `docker compose up`."""


class ApiServer:
    """
    An API server and the tokens of its users.

    :param log_in: returns the token of a user.
    """

    def __init__(self, url: str, log_in: Callable[[str], str]) -> None:
        self.url = url
        self.log_in = log_in
        self._tokens: dict[str, str] = {}

    def token(self, user: str) -> str:
        """Return the token of a user; each user logs in once."""
        if user not in self._tokens:
            self._tokens[user] = self.log_in(user)
        return self._tokens[user]

    def request(self, method: str, path: str, user: str | None, **options: Any) -> requests.Response:
        """Send a request as a user or without a login; without redirects."""
        login = {"Authorization": f"Bearer {self.token(user)}"} if user else {}
        headers = {**options.pop("headers", {}), **login}
        url = f"{self.url}{path}"
        return requests.request(
            method, url, headers=headers, timeout=REQUEST_SECONDS, allow_redirects=False, **options
        )


class FabServer(ApiServer):
    """
    An API server with FAB's auth manager, on the databases of an installation.

    Its users have the names and roles of ``USERS``, and one password.
    """

    def __init__(self, installation: Installation) -> None:
        airflow = installation.airflow()
        self.services = AirflowServices(
            installation.folder / "fab",
            server_url=os.environ["POSTGRES_URL"],
            database=installation.database,
            environment={
                **installation.environment,
                **{name: airflow.settings[name] for name in SHARED_SETTINGS},
                "AIRFLOW__CORE__AUTH_MANAGER": FAB_AUTH_MANAGER,
                "AIRFLOW__FAB__CACHE_TTL": "1",
            },
            services={"api-server": ["api-server", "--apps", "core"]},
        )
        api = AirflowApi(self.services.url)
        super().__init__(api.url, lambda user: api.log_in(user, PASSWORD))
        self._has_started = lambda: bool(api.load_health())

    def start(self) -> None:
        """Create the users and start the server."""
        set_up = ProcessFolder(Path(self.services.folder) / "set-up")
        set_up.run([sys.executable, "-c", SET_UP], self.services.environment, START_SECONDS)
        self.services.start_service("api-server")
        server = self.services.process_folders["api-server"]
        server.wait(self._has_started, START_SECONDS, "the API server with FAB")
        for name in USERS.keys() - PASSWORDS.keys():
            self.create_user(name, ROLES[USERS[name]])

    def is_password(self, user: str, password: str) -> bool:
        """Return whether a user can log in with a password."""
        login = {"username": user, "password": password}
        return self.request("POST", "/auth/token", None, json=login).status_code == 201

    def create_user(self, name: str, role: str) -> None:
        """Create a user with a role of FAB, as docs/how-to/deploy-with-compose.md describes."""
        user = {"username": name, "first_name": name, "last_name": "user", "email": f"{name}@localhost"}
        body = {**user, "password": PASSWORD, "roles": [{"name": role}]}
        self.request("POST", "/auth/fab/v1/users", "admin", json=body).raise_for_status()
