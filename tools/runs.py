"""Runs of process_event, by Airflow's public REST API."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import requests

DAG_PATH = "/dags/process_event"
REQUEST_SECONDS = 30
FINISHED_STATES = ("success", "failed")


class Runs:
    """
    Trigger runs and read their state.

    :param url: of Airflow, without ``/api/v2``.
    :param log_in: returns the token for ``Authorization: Bearer …``.
    """

    def __init__(self, url: str, log_in: Callable[[], str]) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy for requests to this machine
        self._session.headers["Authorization"] = f"Bearer {log_in()}"

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request to ``/api/v2`` + path; ``options`` as of ``requests.request``."""
        return self._session.request(method, f"{self.url}/api/v2{path}", timeout=REQUEST_SECONDS, **options)

    def trigger(self, conf: Mapping[str, Any], run_id: str) -> requests.Response:
        """Start a run."""
        body = {"logical_date": None, "dag_run_id": run_id, "conf": conf}
        return self.request("POST", f"{DAG_PATH}/dagRuns", json=body)

    def load_state(self, run_id: str) -> str:
        """Return the state of a run, such as running, success or failed."""
        return str(self._get(f"{DAG_PATH}/dagRuns/{run_id}")["state"])

    def load_tasks(self, run_id: str) -> dict[str, dict[str, Any]]:
        """Return ``{task_id: task instance}`` of a run."""
        instances = self._get(f"{DAG_PATH}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {instance["task_id"]: instance for instance in instances}

    def load_task_states(self, run_id: str) -> dict[str, str | None]:
        """Return ``{task_id: state}`` of a run."""
        return {task_id: instance["state"] for task_id, instance in self.load_tasks(run_id).items()}

    def load_xcom(self, run_id: str, task_id: str) -> Any:
        """Return the return value of a task."""
        path = f"{DAG_PATH}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        return self._get(path)["value"]

    def wait_finished(self, run_id: str, seconds: float) -> str:
        """
        Wait until a run has finished, and return its state.

        :raises TimeoutError: with the states of the tasks.
        """
        self.wait_until(
            lambda: self.load_state(run_id) in FINISHED_STATES,
            seconds,
            lambda: f"{run_id}: {self.load_task_states(run_id)}",
        )
        return self.load_state(run_id)

    @staticmethod
    def wait_until(condition: Callable[[], bool], seconds: float, describe: Callable[[], str]) -> None:
        """
        Poll until a condition holds, first every 0.1 s and later every second, to save Airflow's CPU time.

        :param describe: returns the text of the error.
        :raises TimeoutError: the condition does not hold within ``seconds``.
        """
        started = time.monotonic()
        while not condition():
            elapsed = time.monotonic() - started
            if elapsed > seconds:
                raise TimeoutError(f"not within {seconds:.0f} s: {describe()}")
            time.sleep(min(0.1 + elapsed / 10, 1.0))

    def _get(self, path: str) -> dict[str, Any]:
        response = self.request("GET", path)
        response.raise_for_status()
        return dict(response.json())
