"""Requests of tests to the running Airflow, and access to its reports, hives and ledger."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from email.message import EmailMessage
from functools import cached_property
from typing import Any
from uuid import uuid4

import pika
import requests
from sqlalchemy import Connection, Engine, create_engine, text

from tests.support import companions
from tests.support.installation import Installation
from tests.support.practice_hive.database import parse_url
from tests.support.practice_metadata import PracticeMetadata
from tests.support.report_queue import ReportQueue
from tools.runs import DAG_PATH, Runs

WAIT_SECONDS = 60
"""Seconds that a test waits for Airflow."""


class System:
    """
    The running Airflow of this test session.

    :param installation: names and URLs of its parts.
    """

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.airflow = installation.airflow()
        self.runs = Runs(self.airflow.url, self.airflow.log_in)
        self.hives: dict[str, Engine] = {
            conn_id: create_engine(parse_url(url)) for conn_id, url in installation.hives.items()
        }
        self.metadata = PracticeMetadata(installation.metadata_url)
        self.run_ids: list[str] = []
        self._queue = ReportQueue(installation.exchange)
        self._tokens: dict[str, str] = {}

    def close(self) -> None:
        """Close all connections."""
        self._queue.close()
        self.metadata.close()
        if "ledger" in vars(self):
            self.ledger.close()
            self.ledger.engine.dispose()
        for engine in self.hives.values():
            engine.dispose()

    def api(self, method: str, path: str, user: str | None = "admin", **options: Any) -> requests.Response:
        """Send a request to ``/event-hooks`` + path, as a user or without a login; without redirects."""
        headers = {"Authorization": f"Bearer {self._token(user)}"} if user else {}
        url = f"{self.airflow.url}/event-hooks{path}"
        response = requests.request(
            method, url, headers=headers, timeout=WAIT_SECONDS, allow_redirects=False, **options
        )
        if (method, path) == ("POST", "/jobs") and response.ok:
            jobs = response.json() if isinstance(response.json(), list) else [response.json()]
            self.run_ids += [job["run_id"] for job in jobs]
        return response

    def _token(self, user: str) -> str:
        if user not in self._tokens:
            self._tokens[user] = self.airflow.log_in(user)
        return self._tokens[user]

    def start(self, conf: dict[str, Any]) -> str:
        """Trigger a run, and return its id; each event of a test has its own genome."""
        run_id = f"test_{uuid4().hex[:12]}"
        response = self.runs.trigger(conf, run_id)
        assert response.status_code == 200, response.text
        self.run_ids.append(run_id)
        return run_id

    def run(self, conf: dict[str, Any]) -> tuple[str, str]:
        """Trigger a run, wait for its end, and return its id and state."""
        run_id = self.start(conf)
        return run_id, self.runs.wait_finished(run_id, WAIT_SECONDS)

    def wait(self, condition: Callable[[], object], description: Callable[[], object] = str) -> None:
        """Wait until a condition holds; the result of ``description`` is the text of the error."""
        self.runs.wait_until(lambda: bool(condition()), WAIT_SECONDS, lambda: str(description()))

    def reports(self, genome: str, key: str = "report.") -> list[dict[str, Any]]:
        """
        Return the reports of one genome's outcomes and stalls so far.

        :param key: beginning of their routing keys.
        """
        return [report for report in self.all_reports(genome, key) if is_outcome_or_stall(report)]

    def all_reports(self, genome: str, key: str = "report.") -> list[dict[str, Any]]:
        """Return all reports of one genome so far, each with its ``routing_key`` and ``message_id``."""
        reports = [report for report in self._queue.read() if report["resource"] == genome]
        return [report for report in reports if report["routing_key"].startswith(key)]

    def drain_report_bodies(self) -> list[str]:
        """Return the bodies of all reports of the session, and remove them from their queue."""
        with closing(pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"]))) as connection:
            channel, queue = connection.channel(), f"{self.installation.exchange}_reports"
            bodies = iter(lambda: channel.basic_get(queue, auto_ack=True)[2], None)
            return [body.decode() for body in bodies]

    def list_routing_keys(self, genome: str) -> list[str]:
        """Return the routing keys of :meth:`reports`, sorted."""
        return sorted(report["routing_key"] for report in self.reports(genome))

    def mails(self, genome: str) -> list[tuple[EmailMessage, str]]:
        """Return the mails about a genome that were sent so far, each with its content."""
        mails = [
            (mail, str(mail.get_body().get_content()))  # type: ignore[union-attr]
            for mail in companions.read_mails(self.installation.folder)
        ]
        return [(mail, content) for mail, content in mails if genome in content]

    def metrics(self) -> list[str]:
        """Return all StatsD lines of event hooks so far."""
        return companions.read_metrics(self.installation.folder)

    def wait_for_task(self, run_id: str, task_id: str, state: str) -> None:
        """Wait until a task of a run is in a state."""
        states = lambda: self.runs.load_task_states(run_id)  # noqa: E731
        self.wait(lambda: states()[task_id] == state, states)

    def wait_for_trigger(self, run_id: str, task_id: str) -> None:
        """Wait until the trigger of a task runs; only then it detects that a user has marked the task."""
        path = f"{DAG_PATH}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        self.wait(lambda: self.runs.request("GET", path).ok, lambda: f"{task_id} has no trigger that runs")

    @cached_property
    def _file_tokens(self) -> list[str]:
        """Names of the DAG files; cached, because a file with an error has no DAG."""
        return [dag["file_token"] for dag in self.runs.request("GET", "/dags").json()["dags"]]

    def parse_dag_files(self) -> None:
        """Request that the DAG files are parsed, as after a change of the lookups."""
        for token in self._file_tokens:
            # Airflow answers 500 while the dag-processor has not taken an earlier request for the file.
            request = lambda: self.runs.request("PUT", f"/parseDagFile/{token}").status_code == 201  # noqa: B023, E731
            self.wait(request, lambda: f"the request to parse {token} is not accepted")  # noqa: B023

    def mark_task(self, run_id: str, task_id: str, state: str) -> None:
        """Mark a task, as a user does on the web page."""
        path = f"{DAG_PATH}/dagRuns/{run_id}/taskInstances/{task_id}"
        response = self.runs.request("PATCH", path, json={"new_state": state})
        assert response.status_code == 200, response.text

    def clear_task(self, run_id: str, task_id: str) -> None:
        """Clear a task and those downstream, as the web page does."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [task_id],
            "only_failed": False,
            "include_downstream": True,
        }
        response = self.runs.request("POST", f"{DAG_PATH}/clearTaskInstances", json=body)
        assert response.status_code == 200, response.text

    def run_maintenance(self) -> None:
        """Trigger maintain_ledger, instead of waiting for its schedule."""
        response = self.runs.request("POST", "/dags/maintain_ledger/dagRuns", json={"logical_date": None})
        assert response.status_code == 200, response.text

    def collect_events(self, **conf: Any) -> dict[str, Any]:
        """Run collect_events for a window, and return its summary."""
        dag = "/dags/collect_events"
        self.runs.request("PATCH", dag, json={"is_paused": False})
        response = self.runs.request("POST", f"{dag}/dagRuns", json={"logical_date": None, "conf": conf})
        assert response.status_code == 200, response.text
        run = f"{dag}/dagRuns/{response.json()['dag_run_id']}"
        self.wait(
            lambda: self.runs.request("GET", run).json()["state"] in ("success", "failed"),
            lambda: self.runs.request("GET", f"{run}/taskInstances").json(),
        )
        path = f"{run}/taskInstances/collect/xcomEntries/return_value"
        return dict(self.runs.request("GET", path).json()["value"])

    def read_task_log(self, run_id: str, task_id: str, attempt: int = 1) -> str:
        """Return the log of a task, as the web page shows it."""
        path = f"{DAG_PATH}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        return str(self.runs.request("GET", path).json())

    @cached_property
    def ledger(self) -> Connection:
        """A connection to the ledger's database; each statement reads all rows that are committed by then."""
        url = self.airflow.ledger_url.replace("://", "+psycopg2://", 1)
        return create_engine(url, isolation_level="AUTOCOMMIT").connect()

    def ledger_rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT in the ledger."""
        return [tuple(row) for row in self.ledger.execute(text(statement), values)]

    def jobs(self, run_id: str, hive: str = "hive_test") -> list[tuple[Any, ...]]:
        """Return id and status of the jobs that a run has submitted to a hive."""
        token = f'%"run_id" => "{run_id}"%'
        statement = (
            "SELECT job_id, status FROM job LEFT JOIN analysis_data"
            " ON input_id = CONCAT('_extended_data_id ', analysis_data_id)"
            " WHERE prev_job_id IS NULL AND (input_id LIKE :token OR data LIKE :token) ORDER BY job_id"
        )
        with self.hives[hive].connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement), {"token": token})]


def is_outcome_or_stall(report: dict[str, Any]) -> bool:
    """Return whether a report is about an outcome or a stall, and not about progress or a whole event."""
    details = report["params"]["event_hooks"]
    is_summary = details["step"] == "event_finished" and details["processes"]
    others = ("received", "submitted", "progress", "late", "retry_requested", "stop_requested")
    return details["step"] not in others and not is_summary


def extract_event(report: dict[str, Any]) -> dict[str, Any]:
    """Return the event that a report is about."""
    return {name: value for name, value in report["params"].items() if name != "event_hooks"}
