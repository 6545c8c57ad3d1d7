"""One running Airflow for all tests that ask for it, on ``neighbours`` of its own."""

from __future__ import annotations

import json
import os
import shutil
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pika
import psycopg2
import pytest
import requests
from aiosmtpd.controller import Controller
from sqlalchemy import Engine, create_engine, text

from tests.support.neighbours import IDLE
from tests.support.practice_hive.database import parse
from tests.support.practice_metadata import PracticeMetadata
from tools.airflow_services import CHECKOUT, SERVICES, AirflowServices
from tools.ports import free_port
from tools.runs import DAG, Runs

LIMIT = 60

JOIN = {
    "process": "dump_joined",
    "after": ["new_xrefs", "new_variation"],
    "within": "1h",
    "then": "run",
    "once_per": ["genome", "assembly"],
}

LATE_JOIN = {"process": "dump_first", "after": ["new_early", "new_late"], "within": "2s", "then": "alert"}

EVENT_LOOKUP = {
    "new_assembly": ["dump_dna", "dump_peptide"],
    "new_genebuild": ["dump_peptide"],
    "old_style": ["dump_old", "dump_dna"],
    "half_wrong": ["dump_nothing", "dump_dna"],
    "idle": ["dump_idle"],
    "idle_for_long": ["dump_idle_for_long"],
    "new_handover": ["dump_first"],
    "new_features": ["dump_peptide"],
    "new_xrefs": [JOIN],
    "new_variation": [],
    "new_early": [LATE_JOIN],
    "new_late": [LATE_JOIN],
    "new_release": [{"process": "dump_joined", "once_per": ["genome", "assembly"]}],
}

GUIHIVE = "http://guihive.invalid/?hive=idle"
"""Where people would look at the idle hive."""

USERS = {"admin": "admin", "operator": "user", "looker": "viewer", "stranger": ""}
"""``{name: role}``; a stranger has none."""

RECOVERY = {
    "AIRFLOW__EVENT_HOOKS__RETRY_DELAY": "1",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "6",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "6",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "1",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "1",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "10",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
}
"""Airflow notices a death within seconds, not minutes; nothing else about it is different."""


class System:
    """A running Airflow, and what its reports and hives can be seen through."""

    def __init__(
        self,
        airflow: AirflowServices,
        hives: list[Engine],
        queues: dict[str, str],
        mails: list[EmailMessage],
        measured: list[str],
    ) -> None:
        self.airflow = airflow
        self.mails = mails
        self.measured = measured
        self.runs = Runs(airflow.url, airflow.token)
        self.hives = hives
        self._queues = queues
        self._tokens: dict[str, str] = {}
        self._seen: dict[str, list[dict[str, Any]]] = {queue: [] for queue in queues}

    def api(self, method: str, path: str, user: str | None = "admin", **given: Any) -> requests.Response:
        """Send a request to ``/event-hooks`` + path, as a user or as nobody, who is not led to a login."""
        headers = {"Authorization": f"Bearer {self._token(user)}"} if user else {}
        url = f"{self.airflow.url}/event-hooks{path}"
        return requests.request(method, url, headers=headers, timeout=LIMIT, allow_redirects=False, **given)

    def _token(self, user: str) -> str:
        if user not in self._tokens:
            self._tokens[user] = self.airflow.token(user)
        return self._tokens[user]

    def start(self, conf: dict[str, Any]) -> str:
        """Trigger a run, and give its id; the event gets a genome of its own, by which it is found again."""
        run_id = f"test_{uuid4().hex[:12]}"
        answer = self.runs.trigger(conf, run_id)
        assert answer.status_code == 200, answer.text
        return run_id

    def reports(self, genome: str, queue: str = "persistent_report") -> list[dict[str, Any]]:
        """Give how one genome's events were told to have ended, or to be held up, so far."""
        return [report for report in self.all_reports(genome, queue) if is_verdict(report)]

    def all_reports(self, genome: str, queue: str = "persistent_report") -> list[dict[str, Any]]:
        """Give the reports of one genome so far, each with its ``routing_key`` and ``message_id``."""
        connection = pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"]))
        channel = connection.channel()
        while True:
            method, properties, body = channel.basic_get(self._queues[queue], auto_ack=True)
            if method is None:
                break
            envelope = {"routing_key": method.routing_key, "message_id": properties.message_id}
            self._seen[queue].append({**json.loads(body), **envelope})
        connection.close()
        return [report for report in self._seen[queue] if report["resource"] == genome]

    def keys(self, genome: str, queue: str = "persistent_report") -> list[str]:
        """Give the routing keys of these reports, sorted."""
        return sorted(report["routing_key"] for report in self.reports(genome, queue))

    def until_task(self, run_id: str, task_id: str, state: str) -> None:
        """Wait until a task of a run is in a state."""
        is_so = lambda: self.runs.task_states(run_id)[task_id] == state  # noqa: E731
        self.runs.until(is_so, LIMIT, lambda: str(self.runs.task_states(run_id)))

    @cached_property
    def _file_tokens(self) -> list[str]:
        """Names of the DAG files; kept, because a file that is broken has no DAG."""
        return [dag["file_token"] for dag in self.runs.ask("GET", "/dags").json()["dags"]]

    def parse(self) -> None:
        """Have the DAG files parsed, as after a change of the lookups."""
        for token in self._file_tokens:
            answer = self.runs.ask("PUT", f"/parseDagFile/{token}")
            assert answer.status_code == 201, answer.text

    def mark(self, run_id: str, task_id: str, state: str) -> None:
        """Mark a task, as a person does on the web page."""
        path = f"{DAG}/dagRuns/{run_id}/taskInstances/{task_id}"
        answer = self.runs.ask("PATCH", path, json={"new_state": state})
        assert answer.status_code == 200, answer.text

    def clear(self, run_id: str, task_id: str) -> None:
        """Clear a task and what follows it, as the web page does."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [task_id],
            "only_failed": False,
            "include_downstream": True,
        }
        answer = self.runs.ask("POST", f"{DAG}/clearTaskInstances", json=body)
        assert answer.status_code == 200, answer.text

    def tend(self) -> None:
        """Start tend_ledger, rather than to wait for its minute."""
        answer = self.runs.ask("POST", "/dags/tend_ledger/dagRuns", json={"logical_date": None})
        assert answer.status_code == 200, answer.text

    def collect(self, **conf: Any) -> dict[str, Any]:
        """Run collect_events for a window, and give what it tells."""
        dag = "/dags/collect_events"
        self.runs.ask("PATCH", dag, json={"is_paused": False})
        answer = self.runs.ask("POST", f"{dag}/dagRuns", json={"logical_date": None, "conf": conf})
        assert answer.status_code == 200, answer.text
        run = f"{dag}/dagRuns/{answer.json()['dag_run_id']}"
        is_over = lambda: self.runs.ask("GET", run).json()["state"] in ("success", "failed")  # noqa: E731
        self.runs.until(is_over, LIMIT, lambda: str(self.runs.ask("GET", f"{run}/taskInstances").json()))
        path = f"{run}/taskInstances/collect/xcomEntries/return_value"
        return dict(self.runs.ask("GET", path).json()["value"])

    def log(self, run_id: str, task_id: str, attempt: int = 1) -> str:
        """Give the log of a task, as the web page shows it."""
        path = f"{DAG}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        return str(self.runs.ask("GET", path).json())

    def jobs(self, run_id: str, hive: int = 0) -> list[tuple[Any, ...]]:
        """Give id and status of the jobs that a run has submitted to a hive."""
        held = f'%"run_id" => "{run_id}"%'
        statement = (
            "SELECT job_id, status FROM job LEFT JOIN analysis_data"
            " ON input_id = CONCAT('_extended_data_id ', analysis_data_id)"
            " WHERE prev_job_id IS NULL AND (input_id LIKE :held OR data LIKE :held) ORDER BY job_id"
        )
        with self.hives[hive].connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement), {"held": held})]


def is_verdict(report: dict[str, Any]) -> bool:
    """Tell whether a report is more than news on the way, or the sum of others."""
    about = report["params"]["event_hooks"]
    is_sum = about["step"] == "finished" and about["processes"]
    return about["step"] not in ("received", "submitted", "progress", "late") and not is_sum


def event_in(report: dict[str, Any]) -> dict[str, Any]:
    """Give the event that a report is about."""
    return {name: value for name, value in report["params"].items() if name != "event_hooks"}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what needs the running Airflow, so that `-m "not system"` leaves it out."""
    if "system" in getattr(item, "fixturenames", ()):
        item.add_marker("system")


@pytest.fixture(scope="session")
def genomes() -> Iterator[str]:
    """Names that no other test uses."""
    return (f"genome_{uuid4().hex[:12]}" for _ in iter(int, 1))


@pytest.fixture
def genome(genomes: Iterator[str]) -> str:
    """A genome of this test's own."""
    return next(genomes)


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A home for Airflow, inside the checkout's .stack so that `make down` ends what a killed test leaves."""
    home = CHECKOUT / ".stack" / "tests" / uuid4().hex[:12]
    home.mkdir(parents=True, mode=0o700)
    yield home
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def lookup_files(folder: Path, hives: list[str]) -> dict[str, Path]:
    """Lookups with processes of both kinds, and one whose analysis does not exist."""
    processes = {
        "dump_dna": {"analysis": "event_dump_dna", "hive_conn_id": "hive_test"},
        # A deadline of every run, which is open while the tests clear its tasks
        "dump_peptide": {"analysis": "event_dump_peptide", "hive_conn_id": "hive_test", "late_after": 3600},
        "dump_old": {"analysis": "event_dump_dna", "hive_uri": hives[1]},
        "dump_nothing": {"analysis": "event_dump_nothing", "hive_conn_id": "hive_test"},
        "dump_idle": {"analysis": "event_dump_dna", "hive_conn_id": "hive_idle", "guihive": GUIHIVE},
        "dump_idle_for_long": {
            "analysis": "event_dump_dna",
            "hive_conn_id": "hive_idle",
            "ready_limit": 1,
            "late_after": 3,
            "job_timeout": 8,
        },
        "dump_first": {
            "analysis": "event_dump_dna",
            "hive_conn_id": "hive_test",
            "pool": "hive_test",
            "emits": ["new_features"],
        },
        "dump_joined": {"analysis": "event_dump_dna", "hive_conn_id": "hive_test"},
    }
    files = {}
    for name, content in (("event_lookup", EVENT_LOOKUP), ("process_lookup", processes)):
        files[name] = folder / f"{name}.json"
        files[name].write_text(json.dumps(content))
    return files


class Mailbox:
    """Takes all mails."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 (aiosmtpd's name)
        """Keep one."""
        self.mails.append(BytesParser(policy=default).parsebytes(envelope.content))
        return "250 OK"


class Statsd(socketserver.ThreadingUDPServer):
    """Takes all metrics."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.lines: list[str] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        """Keep what is of event hooks; Airflow itself measures far more."""
        self.lines += [line for line in request[0].decode().splitlines() if ".event_hooks." in line]


@pytest.fixture(scope="session")
def statsd() -> Iterator[Statsd]:
    """A StatsD server."""
    with Statsd() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def mailbox() -> Iterator[Mailbox]:
    """A mail server."""
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=mailbox.port)
    controller.start()
    yield mailbox
    controller.stop()


@pytest.fixture(scope="session")
def start(
    hives: list[str],
    exchange: tuple[str, dict[str, str]],
    lookup_files: dict[str, Path],
    mailbox: Mailbox,
    statsd: Statsd,
    practice_metadata: tuple[PracticeMetadata, str],
) -> Callable[..., AbstractContextManager[System]]:
    """Starts an Airflow beside all that it speaks to, as :func:`started`."""
    return partial(started, hives, exchange, lookup_files, mailbox, statsd, practice_metadata[1])


@pytest.fixture(scope="session")
def system(folder: Path, start: Callable[..., AbstractContextManager[System]]) -> Iterator[System]:
    """Airflow with PostgreSQL, scheduler, triggerer, DAG processor and API server."""
    with start(folder) as system:
        yield system


def warm_up(system: System) -> None:
    """Run an event: the first one of an Airflow takes several seconds longer than later ones."""
    run_id = system.start({"type": "new_genebuild", "genome": "warm_up"})
    assert system.runs.until_over(run_id, 2 * LIMIT) == "success"


@contextmanager
def started(
    hives: list[str],
    exchange: tuple[str, dict[str, str]],
    lookup_files: dict[str, Path],
    mailbox: Mailbox,
    statsd: Statsd,
    metadata: str,
    folder: Path,
    *,
    services: Mapping[str, Sequence[str]] = SERVICES,
    **more: str,
) -> Iterator[System]:
    """
    Start an Airflow, and end it.

    :param folder: its home.
    :param services: as of :class:`AirflowServices`.
    :param more: further variables of its environment.
    """
    database = f"test_{uuid4().hex[:20]}"
    server = os.environ["POSTGRES_URL"].rpartition("/")[0]
    environment = {
        "AIRFLOW_CONN_HIVE_TEST": hives[0],
        "AIRFLOW_CONN_HIVE_IDLE": hives[IDLE],
        "AIRFLOW_CONN_ENSEMBL_METADATA": metadata,
        "AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(
            {
                "conn_type": "smtp",
                "host": "127.0.0.1",
                "port": mailbox.port,
                "extra": {"disable_ssl": True, "disable_tls": True, "from_email": "event_hooks@localhost"},
            }
        ),
        "AIRFLOW__EVENT_HOOKS__FAILURE_MAIL_TO": "somebody@localhost, another@localhost",
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(statsd.server_address[1]),
        "AIRFLOW_CONN_RABBITMQ_REPORTS": os.environ["RABBITMQ_URL"],
        "AIRFLOW__EVENT_HOOKS__EVENT_LOOKUP": str(lookup_files["event_lookup"]),
        "AIRFLOW__EVENT_HOOKS__PROCESS_LOOKUP": str(lookup_files["process_lookup"]),
        "AIRFLOW__EVENT_HOOKS__REPORT_EXCHANGE": exchange[0],
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(
            f"{name}:{role}" for name, role in USERS.items()
        ),
        "AIRFLOW__EVENT_HOOKS__POLL_INTERVAL": "0.5",
        "AIRFLOW__EVENT_HOOKS__TROUBLE_AFTER": "2",
        "AIRFLOW__EVENT_HOOKS__PROGRESS_INTERVAL": "1",
        "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
        # Airflow's default, within LIMIT: a mail that comes while its DAG file is parsed waits for the next
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
        **RECOVERY,
        **more,
    }
    url = f"{server}/{database}"
    airflow = AirflowServices(folder, database_url=url, environment=environment, services=services)
    try:
        airflow.prepare()
        airflow.run("pools", "set", "hive_test", "4", "submit tasks of one hive")
        airflow.start()
        airflow.wait_ready()
        engines = [
            create_engine(parse(f"{os.environ['MYSQL_URL'].rstrip('/')}/{url.rpartition('/')[2]}"))
            for url in hives
        ]
        system = System(airflow, engines, exchange[1], mailbox.mails, statsd.lines)
        warm_up(system)
        yield system
    finally:
        airflow.stop()
        connection = psycopg2.connect(f"{server}/postgres")
        connection.autocommit = True
        for name in (database, f"{database}_ledger"):
            connection.cursor().execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.close()
