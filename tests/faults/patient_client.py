"""A client that repeats its requests while the API server restarts, possibly with another clock."""

from __future__ import annotations

import time
from typing import Any

import requests

from tests.support.system import System

RETRY_SECONDS = 120.0
REQUEST_SECONDS = 30.0


class PatientClient:
    """
    Requests as the user ``admin``.

    A token that an API server with a fast clock issued is not valid yet after that server's clock is set
    back, so a rejected token is replaced.
    """

    def __init__(self, system: System) -> None:
        self._airflow = system.airflow
        self._token = ""

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send an idempotent request to the server until its status is neither 401 nor 5xx."""
        deadline = time.monotonic() + RETRY_SECONDS
        while True:
            try:
                self._token = self._token or self._airflow.log_in()
                response = requests.request(
                    method,
                    f"{self._airflow.url}{path}",
                    headers={"Authorization": f"Bearer {self._token}"},
                    timeout=REQUEST_SECONDS,
                    **options,
                )
                problem = f"{response.status_code} {response.text[:500]}"
            except requests.RequestException as error:
                response, problem = None, str(error)
            if response is not None and response.status_code < 500 and response.status_code != 401:
                return response
            if time.monotonic() > deadline:
                raise TimeoutError(f"{method} {path}: {problem}")
            self._token = ""
            time.sleep(0.5)
