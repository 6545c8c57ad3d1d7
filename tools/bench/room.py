"""An Airflow of its own to measure, and the table of what was measured."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pika
import psutil
import requests
from sqlalchemy import Engine, create_engine

from tests.support.practice_hive import tables
from tests.support.practice_hive.database import parse
from tools.airflow_services import CHECKOUT, AirflowServices

ANALYSES = ("event_dump_dna", "event_dump_peptide")


@dataclass(frozen=True)
class Measured:
    """One figure, and what it may be at most or must be at least."""

    step: str
    value: float
    unit: str
    bar: str = ""
    is_good: bool = True


@dataclass(frozen=True)
class Place:
    """What is measured: an Airflow with what it speaks to."""

    airflow: AirflowServices
    hive: Engine
    """As an administrator."""

    hive_user: str
    """As whom Airflow speaks to the hive; the server counts their statements."""

    ledger: Engine
    queue: str
    """Hears all reports."""

    def ask(self, engine: Engine, statement: str) -> list[Any]:
        """Give the rows of a SELECT."""
        with engine.connect() as connection:
            return list(connection.exec_driver_sql(statement))

    def statements(self) -> int:
        """Count the SQL statements to the hive so far."""
        columns = "select_commands + update_commands + other_commands"
        counted = f"SELECT {columns} FROM information_schema.user_statistics WHERE user = '{self.hive_user}'"
        return int(next(iter(self.ask(self.hive, counted)), [0])[0])

    def cpu(self, *services: str) -> float:
        """Give the CPU seconds of services so far, of all that they have started included; default all."""
        return sum(_cpu(leader) for leader in self._leaders(services))

    def memory(self) -> float:
        """Give the MiB that all services have for themselves."""
        return sum(_memory(leader) for leader in self._leaders(())) / 2**20

    def _leaders(self, services: Sequence[str]) -> Iterator[psutil.Process]:
        for name in services or self.airflow.services:
            leader = self.airflow.places[name].leader()
            if leader is None:
                raise RuntimeError(f"the {name} is gone")
            yield leader

    def until_quiet(self) -> None:
        """Wait until what came before only waits for its jobs."""
        until(lambda: psutil.cpu_percent(1) < 40, 300, "a quiet machine")

    def session(self) -> requests.Session:
        """Give what speaks to the API as admin."""
        session = requests.Session()
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {self.airflow.token()}"
        return session


def _cpu(process: psutil.Process) -> float:
    """Add up a tree: what has ended is in the times of who has waited for it."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += sum(one.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def _memory(process: psutil.Process) -> float:
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().uss
        except psutil.NoSuchProcess:
            continue
    return total


def until(is_so: Callable[[], Any], limit: float, what: str) -> None:
    """
    Wait until something is so.

    :raises TimeoutError: it is not within ``limit`` seconds.
    """
    end = time.monotonic() + limit
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError(f"no {what} within {limit:.0f} s")
        time.sleep(0.2)


@contextmanager
def broker() -> Iterator[Any]:
    """Open a channel for a moment: in minutes without a word, RabbitMQ would close it."""
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"]))
    yield connection.channel()
    connection.close()


@contextmanager
def place() -> Iterator[Place]:
    """Start an Airflow with the default settings, and end it with all that it wrote."""
    name = f"bench_{uuid4().hex[:16]}"
    server = os.environ["MYSQL_URL"].rstrip("/")
    hive_url = f"{server}/{name}"
    tables.create(hive_url, analyses=ANALYSES)
    database = f"{os.environ['POSTGRES_URL'].rpartition('/')[0]}/{name}"
    folder = CHECKOUT / ".stack" / "tests" / name
    folder.mkdir(parents=True, mode=0o700)
    with broker() as channel:
        channel.exchange_declare(name, "topic", durable=True)
        channel.queue_declare(name, durable=True)
        channel.queue_bind(name, name, "report.*")
    root = create_engine(parse(hive_url), isolation_level="AUTOCOMMIT")
    with root.connect() as connection:
        counted = connection.exec_driver_sql("SELECT @@GLOBAL.userstat").scalar()
        connection.exec_driver_sql("SET GLOBAL userstat = 1")
        connection.exec_driver_sql(f"CREATE USER {name}@'%%' IDENTIFIED BY '{name}'")
        connection.exec_driver_sql(f"GRANT SELECT, INSERT, UPDATE ON {name}.* TO {name}@'%%'")
    lookups = {
        f"AIRFLOW__EVENT_HOOKS__{kind.upper()}_LOOKUP": str(CHECKOUT / "lookups" / f"{kind}_lookup.json")
        for kind in ("event", "process")
    }
    airflow = AirflowServices(
        folder,
        database_url=database,
        environment={
            "AIRFLOW_CONN_HIVE_EVENT_HANDLING": f"mysql://{name}:{name}@{server.rpartition('@')[2]}/{name}",
            "AIRFLOW_CONN_RABBITMQ_REPORTS": os.environ["RABBITMQ_URL"],
            "AIRFLOW__EVENT_HOOKS__REPORT_EXCHANGE": name,
            **lookups,
        },
    )
    try:
        airflow.prepare()
        airflow.start()
        airflow.wait_ready()
        ledger = create_engine(airflow.ledger_url)
        yield Place(airflow, root, name, ledger, name)
        ledger.dispose()
    finally:
        airflow.stop()
        with broker() as channel:
            channel.queue_delete(name)
            channel.exchange_delete(name)
        with root.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}")
            connection.exec_driver_sql(f"DROP USER {name}@'%%'")
            connection.exec_driver_sql(f"SET GLOBAL userstat = {counted}")
        root.dispose()
        postgresql = create_engine(os.environ["POSTGRES_URL"], isolation_level="AUTOCOMMIT")
        with postgresql.connect() as connection:
            for one in (name, f"{name}_ledger"):
                connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {one} WITH (FORCE)")
        shutil.rmtree(folder)


def table(measured: Sequence[Measured]) -> str:
    """Write a Markdown table."""
    rows = [f"| {one.step} | {_shown(one)} | {one.bar} |" for one in measured]
    return "\n".join(["| What | Measured | Bar |", "| --- | ---: | ---: |", *rows])


def _shown(one: Measured) -> str:
    digits = 0 if float(one.value).is_integer() else 2 if one.value < 10 else 1
    text = f"{one.value:,.{digits}f} {one.unit}".strip()
    return text if one.is_good else f"**{text}**"


def machine(server: str) -> str:
    """Say when and where."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {os.cpu_count()} cores, {memory:.0f} GiB,"
        f" {platform.platform()}, Python {platform.python_version()}, {server}"
    )
