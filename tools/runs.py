"""Runs of process_event, over Airflow's REST API as anybody uses it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import requests

DAG = "/dags/process_event"
REQUEST_SECONDS = 30
OVER = ("success", "failed")


class Runs:
    """
    Trigger runs and look at them.

    :param url: of Airflow.
    :param token: gives what goes into ``Authorization: Bearer …``.
    """

    def __init__(self, url: str, token: Callable[[], str]) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy between us and this machine
        self._session.headers["Authorization"] = f"Bearer {token()}"

    def ask(self, method: str, path: str, **given: Any) -> requests.Response:
        """Send a request to ``/api/v2`` + path."""
        return self._session.request(method, f"{self.url}/api/v2{path}", timeout=REQUEST_SECONDS, **given)

    def trigger(self, conf: Mapping[str, Any], run_id: str) -> requests.Response:
        """Start a run."""
        return self.ask(
            "POST", f"{DAG}/dagRuns", json={"logical_date": None, "dag_run_id": run_id, "conf": conf}
        )

    def state(self, run_id: str) -> str:
        """Give the run's state, as in running, success, failed."""
        return str(self._got(f"{DAG}/dagRuns/{run_id}")["state"])

    def tasks(self, run_id: str) -> dict[str, dict[str, Any]]:
        """Give the run's task instances by their task_id."""
        found = self._got(f"{DAG}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {instance["task_id"]: instance for instance in found}

    def task_states(self, run_id: str) -> dict[str, str | None]:
        """Give the states of the run's tasks by their task_id."""
        return {task_id: instance["state"] for task_id, instance in self.tasks(run_id).items()}

    def xcom(self, run_id: str, task_id: str) -> Any:
        """Give what a task returned."""
        path = f"{DAG}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        return self._got(path)["value"]

    def until_over(self, run_id: str, seconds: float) -> str:
        """
        Wait for the end of a run, and give its state.

        :raises TimeoutError: names the tasks' states.
        """
        self.until(
            lambda: self.state(run_id) in OVER, seconds, lambda: f"{run_id}: {self.task_states(run_id)}"
        )
        return self.state(run_id)

    @staticmethod
    def until(is_so: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
        """
        Wait until a condition holds; long waits ask less often, because each question costs Airflow CPU time.

        :raises TimeoutError: with the text of ``what``.
        """
        started = time.monotonic()
        while not is_so():
            elapsed = time.monotonic() - started
            if elapsed > seconds:
                raise TimeoutError(f"not within {seconds:.0f} s: {what()}")
            time.sleep(min(0.1 + elapsed / 10, 1.0))

    def _got(self, path: str) -> dict[str, Any]:
        answer = self.ask("GET", path)
        answer.raise_for_status()
        return dict(answer.json())
