"""A separate Airflow for benchmarks."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pika
import psutil
import requests
from sqlalchemy import Connection, Engine, create_engine

from tests.support.practice_hive import tables
from tests.support.practice_hive.database import parse_url
from tools.airflow_services import CHECKOUT, AirflowServices

ANALYSES = ("event_dump_dna", "event_dump_peptide")


@dataclass(frozen=True)
class Environment:
    """
    The measured Airflow, and the systems that it connects to.

    :param database: Airflow's database.
    :param hive: connects as the server's administrator.
    :param hive_user: the user of Airflow's connections; the server counts the statements of this user.
    :param queue: receives all reports.
    """

    airflow: AirflowServices
    database: Engine
    hive: Engine
    hive_user: str
    ledger: Engine
    queue: str

    def fetch_rows(self, engine: Engine, statement: str) -> list[Any]:
        """Return the rows of a SELECT."""
        with engine.connect() as connection:
            return list(connection.exec_driver_sql(statement))

    def count_statements(self) -> int:
        """Return the number of SQL statements to the hive so far."""
        with self.hive.connect() as connection:
            return count_user_statements(connection, self.hive_user)

    def measure_cpu(self, *services: str) -> float:
        """Return the CPU seconds of services so far, with those of their child processes; default: all."""
        return sum(_measure_cpu(leader) for leader in self.leaders(*services))

    def measure_memory(self) -> float:
        """Return the MiB of all services, without memory that several processes share."""
        return sum(_measure_memory(leader) for leader in self.leaders()) / 2**20

    def leaders(self, *services: str) -> Iterator[psutil.Process]:
        """Yield the first process of services; default: all."""
        for name in services or self.airflow.services:
            leader = self.airflow.process_folders[name].leader()
            if leader is None:
                raise RuntimeError(f"the {name} has ended")
            yield leader

    def wait_until_idle(self) -> None:
        """
        Wait until earlier work has finished: the machine uses less than 40 % of its CPU for a second.

        :raises TimeoutError: after 300 s.
        """
        wait_until(lambda: psutil.cpu_percent(1) < 40, 300, "idle machine")

    def open_session(self) -> requests.Session:
        """Return a session for requests to the API as admin."""
        session = requests.Session()
        session.trust_env = False  # no proxy for requests to this machine
        session.headers["Authorization"] = f"Bearer {self.airflow.log_in()}"
        return session

    def submit_until_wait(self, event: dict[str, Any]) -> tuple[str, float]:
        """
        Submit an event, and wait until its task ``wait`` is deferred.

        :return: the id of its run, and the seconds from the request on.
        :raises TimeoutError: after 120 s.
        """
        session, started = self.open_session(), time.monotonic()
        response = session.post(f"{self.airflow.url}/event-hooks/jobs", json=event, timeout=60)
        response.raise_for_status()
        run_id = str(response.json()["run_id"])
        statement = f"SELECT 1 FROM task_instance WHERE run_id = '{run_id}' AND state = 'deferred'"
        wait_until(lambda: self.fetch_rows(self.database, statement), 120, "deferred task", pause=0.02)
        return run_id, time.monotonic() - started


def _measure_cpu(process: psutil.Process) -> float:
    """Return the CPU seconds of a process tree; the times of a parent include its ended children."""
    total = 0.0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += sum(member.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def _measure_memory(process: psutil.Process) -> float:
    total = 0.0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().uss
        except psutil.NoSuchProcess:
            continue
    return total


def wait_until(condition: Callable[[], Any], seconds: float, name: str, pause: float = 0.2) -> None:
    """
    Poll until a condition holds.

    :param name: of the condition, for the error.
    :param pause: seconds between two polls.
    :raises TimeoutError: it does not hold within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {name} within {seconds:.0f} s")
        time.sleep(pause)


def count_user_statements(root: Connection, user: str) -> int:
    """Return the number of SQL statements that the server has executed for a user since :func:`hive_user`."""
    if _is_mariadb(root):
        columns = "select_commands + update_commands + other_commands"
        query = f"SELECT {columns} FROM information_schema.user_statistics WHERE user = '{user}'"
    else:
        query = (
            "SELECT SUM(count_star) FROM performance_schema.events_statements_summary_by_user_by_event_name"
            f" WHERE user = '{user}' AND event_name LIKE 'statement/sql/%%'"
        )
    return int(root.exec_driver_sql(query).scalar() or 0)


def _is_mariadb(connection: Connection) -> bool:
    """Return whether the server is MariaDB; MySQL always counts the statements of each user."""
    return bool(getattr(connection.dialect, "is_mariadb", False))


@contextmanager
def hive_user(root: Connection, name: str) -> Iterator[None]:
    """
    Create a user for the database of the same name, and have the server count the user's statements.

    At the end, drop the database and the user, and restore the server's setting.
    """
    previous = root.exec_driver_sql("SELECT @@GLOBAL.userstat").scalar() if _is_mariadb(root) else None
    if previous is not None:
        root.exec_driver_sql("SET GLOBAL userstat = 1")
    root.exec_driver_sql(f"CREATE USER {name}@'%%' IDENTIFIED BY '{name}'")
    root.exec_driver_sql(f"GRANT SELECT, INSERT, UPDATE ON {name}.* TO {name}@'%%'")
    try:
        yield
    finally:
        root.exec_driver_sql(f"DROP DATABASE {name}")
        root.exec_driver_sql(f"DROP USER {name}@'%%'")
        if previous is not None:
            root.exec_driver_sql(f"SET GLOBAL userstat = {previous}")


@contextmanager
def bench_environment() -> Iterator[Environment]:
    """Start an Airflow with the default settings; stop it and delete its data at the end."""
    name = f"bench_{uuid4().hex[:16]}"
    server = os.environ["MYSQL_URL"].rstrip("/")
    tables.create(f"{server}/{name}", analyses=ANALYSES)
    folder = CHECKOUT / ".stack" / "tests" / name
    folder.mkdir(parents=True, mode=0o700)
    _declare_queue(name)
    airflow = _build_airflow(folder, name, f"mysql://{name}:{name}@{server.rpartition('@')[2]}/{name}")
    root = create_engine(parse_url(f"{server}/{name}"), isolation_level="AUTOCOMMIT")
    with root.connect() as connection, hive_user(connection, name):
        try:
            airflow.prepare()
            airflow.start()
            airflow.wait_ready()
            database, ledger = create_engine(airflow.databases[0].url), create_engine(airflow.ledger_url)
            yield Environment(airflow, database, root, name, ledger, name)
            database.dispose()
            ledger.dispose()
        finally:
            airflow.stop()
            _delete_queue(name)
            for created in airflow.databases:
                created.drop()
            shutil.rmtree(folder)
    root.dispose()


def _build_airflow(folder: Path, name: str, hive_url: str) -> AirflowServices:
    lookups = {
        f"AIRFLOW__EVENT_HOOKS__{kind.upper()}_LOOKUP": str(CHECKOUT / "lookups" / f"{kind}_lookup.json")
        for kind in ("event", "process")
    }
    return AirflowServices(
        folder,
        server_url=os.environ["POSTGRES_URL"],
        database=name,
        environment={
            "AIRFLOW_CONN_HIVE_EVENT_HANDLING": hive_url,
            "AIRFLOW_CONN_RABBITMQ_REPORTS": os.environ["RABBITMQ_URL"],
            "AIRFLOW__EVENT_HOOKS__REPORT_EXCHANGE": name,
            **lookups,
        },
    )


@contextmanager
def _open_channel() -> Iterator[Any]:
    """Open a channel for a short time: RabbitMQ closes a connection that sends no heartbeats for minutes."""
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"]))
    yield connection.channel()
    connection.close()


def _declare_queue(name: str) -> None:
    """Declare an exchange and a queue of the same name that receives all reports."""
    with _open_channel() as channel:
        channel.exchange_declare(name, "topic", durable=True)
        channel.queue_declare(name, durable=True)
        channel.queue_bind(name, name, "report.*")


def _delete_queue(name: str) -> None:
    with _open_channel() as channel:
        channel.queue_delete(name)
        channel.exchange_delete(name)
