"""Requests to Airflow's REST API: login, health, DAGs and import errors."""

from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

from tools.exceptions import StackError

REQUEST_SECONDS = 10


class AirflowApi:
    """
    A client of one API server.

    :param url: of the web page, without ``/api/v2``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy for requests to this machine

    def log_in(self, user: str, password: str) -> str:
        """
        Return the token for ``Authorization: Bearer …``.

        :raises requests.RequestException: the server is unreachable, or it rejects the login.
        """
        login = {"username": user, "password": password}
        response = self._session.post(f"{self.url}/auth/token", json=login, timeout=REQUEST_SECONDS)
        response.raise_for_status()
        return str(response.json()["access_token"])

    def load_health(self) -> dict[str, Any]:
        """Return the health of each component; an empty dictionary if the API server is unavailable."""
        try:
            return self._get("monitor/health")
        except requests.RequestException:
            return {}

    def list_missing_dags(self, token: str, dag_ids: Collection[str], since: float) -> list[str]:
        """
        Return the ids that Airflow does not list, sorted.

        :param since: Unix time; older import errors are ignored, since the file may be corrected by now.
        :raises StackError: a file of a missing DAG has an import error.
        :raises requests.RequestException: the server is unavailable.
        """
        missing = sorted(set(dag_ids) - {dag["dag_id"] for dag in self._get("dags", token)["dags"]})
        for error in self._get("importErrors", token)["import_errors"] if missing else []:
            is_new = datetime.fromisoformat(error["timestamp"]).timestamp() > since
            if is_new and Path(error["filename"]).stem in missing:
                raise StackError(f"The DAG file {error['filename']} does not load:\n{error['stack_trace']}")
        return missing

    def _get(self, path: str, token: str = "") -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        response = self._session.get(f"{self.url}/api/v2/{path}", headers=headers, timeout=REQUEST_SECONDS)
        response.raise_for_status()
        return dict(response.json())
