"""One running Airflow for all system tests, with two hives and an exchange of its own."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pika
import psycopg2
import pytest
from sqlalchemy import Engine, create_engine, text

from tests.support.practice_hive import tables
from tests.support.practice_hive.database import parse
from tests.support.practice_hive.worker import Worker
from tools.airflow_services import CHECKOUT, AirflowServices
from tools.runs import DAG, Runs

SECRETS = ("secret_of_one_hive", "secret_of_the_other", "secret_of_the_idle")
"""The passwords with which Airflow reaches the hives; in the last one nobody works."""

IDLE = 2

LIMIT = 60

EVENT_LOOKUP = {
    "new_assembly": ["dump_dna", "dump_peptide"],
    "new_genebuild": ["dump_peptide"],
    "old_style": ["dump_old", "dump_dna"],
    "half_wrong": ["dump_nothing", "dump_dna"],
    "idle": ["dump_idle"],
    "idle_for_long": ["dump_idle_for_long"],
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here, so that `-m "not system"` leaves it out."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("system")


class System:
    """A running Airflow, and what its reports and hives can be seen through."""

    def __init__(self, airflow: AirflowServices, hives: list[Engine], queues: dict[str, str]) -> None:
        self.airflow = airflow
        self.runs = Runs(airflow.url, airflow.token)
        self.hives = hives
        self._queues = queues
        self._seen: dict[str, list[dict[str, Any]]] = {queue: [] for queue in queues}

    def start(self, conf: dict[str, Any]) -> str:
        """Trigger a run, and give its id; the event gets a genome of its own, by which it is found again."""
        run_id = f"test_{uuid4().hex[:12]}"
        answer = self.runs.trigger(conf, run_id)
        assert answer.status_code == 200, answer.text
        return run_id

    def reports(self, genome: str, queue: str = "persistent_report") -> list[dict[str, Any]]:
        """Give the reports of one genome that have arrived so far, each with its ``routing_key``."""
        connection = pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"]))
        channel = connection.channel()
        while True:
            method, _, body = channel.basic_get(self._queues[queue], auto_ack=True)
            if method is None:
                break
            self._seen[queue].append({**json.loads(body), "routing_key": method.routing_key})
        connection.close()
        return [report for report in self._seen[queue] if report["resource"] == genome]

    def keys(self, genome: str, queue: str = "persistent_report") -> list[str]:
        """Give the routing keys of these reports, sorted."""
        return sorted(report["routing_key"] for report in self.reports(genome, queue))

    def until_task(self, run_id: str, task_id: str, state: str) -> None:
        """Wait until a task of a run is in a state."""
        is_so = lambda: self.runs.task_states(run_id)[task_id] == state  # noqa: E731
        self.runs.until(is_so, LIMIT, lambda: str(self.runs.task_states(run_id)))

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


@pytest.fixture(scope="session")
def genomes() -> Iterator[Iterator[str]]:
    """Names that no other test uses."""
    return (f"genome_{uuid4().hex[:12]}" for _ in iter(int, 1))


@pytest.fixture
def genome(genomes: Iterator[str]) -> str:
    """A genome of this test's own."""
    return next(genomes)


@pytest.fixture(scope="session")
def hives() -> Iterator[list[str]]:
    """Three hives and who works in two of them; gives the addresses that Airflow uses."""
    server, names = os.environ["MYSQL_URL"].rstrip("/"), [f"hive_{uuid4().hex[:20]}" for _ in SECRETS]
    place = server.rpartition("@")[2]
    stop = threading.Event()
    workers = []
    for name, secret in zip(names, SECRETS, strict=True):
        url = f"{server}/{name}"
        tables.create(url, analyses=("event_dump_dna", "event_dump_peptide"))
        with create_engine(parse(url)).begin() as connection:
            connection.exec_driver_sql(f"CREATE USER {name}@'%%' IDENTIFIED BY '{secret}'")
            connection.exec_driver_sql(f"GRANT SELECT, INSERT, UPDATE ON {name}.* TO {name}@'%%'")
        if secret != SECRETS[IDLE]:
            workers.append(threading.Thread(target=Worker(url, threads=2).run, args=[stop]))
            workers[-1].start()
    yield [f"mysql://{name}:{secret}@{place}/{name}" for name, secret in zip(names, SECRETS, strict=True)]
    stop.set()
    for worker in workers:
        worker.join()
    with create_engine(parse(f"{server}/mysql")).begin() as connection:
        for name in names:
            connection.exec_driver_sql(f"DROP DATABASE {name}")
            connection.exec_driver_sql(f"DROP USER {name}@'%%'")


@pytest.fixture(scope="session")
def exchange() -> Iterator[tuple[str, dict[str, str]]]:
    """An exchange with the known consumers' queues under other names: ``(exchange, {known name: name})``."""
    name = f"test_{uuid4().hex}"
    queues = {"persistent_report": f"persistent_{name}", "email_report": f"email_{name}"}
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"]))
    channel = connection.channel()
    channel.exchange_declare(name, "topic", durable=True)
    for queue, pattern in zip(queues.values(), ("report.*", "report.fatal"), strict=True):
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, name, pattern)
    connection.close()
    yield name, queues
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"]))
    for queue in queues.values():
        connection.channel().queue_delete(queue)
    connection.channel().exchange_delete(name)
    connection.close()


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
        "dump_peptide": {"analysis": "event_dump_peptide", "hive_conn_id": "hive_test"},
        "dump_old": {"analysis": "event_dump_dna", "hive_uri": hives[1]},
        "dump_nothing": {"analysis": "event_dump_nothing", "hive_conn_id": "hive_test"},
        "dump_idle": {"analysis": "event_dump_dna", "hive_conn_id": "hive_idle"},
        "dump_idle_for_long": {
            "analysis": "event_dump_dna",
            "hive_conn_id": "hive_idle",
            "ready_limit": 1,
            "job_timeout": 8,
        },
    }
    files = {}
    for name, content in (("event_lookup", EVENT_LOOKUP), ("process_lookup", processes)):
        files[name] = folder / f"{name}.json"
        files[name].write_text(json.dumps(content))
    return files


@pytest.fixture(scope="session")
def system(
    folder: Path, hives: list[str], exchange: tuple[str, dict[str, str]], lookup_files: dict[str, Path]
) -> Iterator[System]:
    """Airflow with PostgreSQL, scheduler, triggerer, DAG processor and API server."""
    database = f"test_{uuid4().hex[:20]}"
    server = os.environ["POSTGRES_URL"].rpartition("/")[0]
    environment = {
        "AIRFLOW_CONN_HIVE_TEST": hives[0],
        "AIRFLOW_CONN_HIVE_IDLE": hives[IDLE],
        "AIRFLOW_CONN_RABBITMQ_REPORTS": os.environ["RABBITMQ_URL"],
        "AIRFLOW__EVENT_HOOKS__EVENT_LOOKUP": str(lookup_files["event_lookup"]),
        "AIRFLOW__EVENT_HOOKS__PROCESS_LOOKUP": str(lookup_files["process_lookup"]),
        "AIRFLOW__EVENT_HOOKS__REPORT_EXCHANGE": exchange[0],
        "AIRFLOW__EVENT_HOOKS__POLL_INTERVAL": "0.5",
        "AIRFLOW__EVENT_HOOKS__TROUBLE_AFTER": "2",
        "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    }
    airflow = AirflowServices(folder, database_url=f"{server}/{database}", environment=environment)
    try:
        airflow.prepare()
        airflow.start()
        airflow.wait_ready()
        engines = [
            create_engine(parse(f"{os.environ['MYSQL_URL'].rstrip('/')}/{url.rpartition('/')[2]}"))
            for url in hives
        ]
        yield System(airflow, engines, exchange[1])
    finally:
        airflow.stop()
        connection = psycopg2.connect(f"{server}/postgres")
        connection.autocommit = True
        connection.cursor().execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        connection.close()
