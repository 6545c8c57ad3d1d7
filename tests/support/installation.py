"""
The Airflow that all processes of one test session share, and the systems that it connects to.

It is similar to a team's installation: CeleryExecutor with RabbitMQ, two triggerers, PostgreSQL. The first
process that needs it starts it in the background:

    python -m tests.support.installation FOLDER celery

which creates ``FOLDER/ready`` at its end. The process that ends the session calls :func:`remove`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import SplitResult, urlsplit
from uuid import uuid4

import pika
from filelock import FileLock
from sqlalchemy import Connection, create_engine

from tests.support.airflow_settings import (
    TRIGGERER_2,
    celery_environment,
    celery_services,
    default_queue,
    environment,
)
from tests.support.lookups import HIVES, lookup_files, write_lookups
from tests.support.practice_hive import tables
from tests.support.practice_hive.database import parse_url
from tests.support.practice_metadata import PracticeMetadata
from tools.airflow_services import CHECKOUT, SERVICES, AirflowServices
from tools.exceptions import StackError
from tools.ports import find_free_port
from tools.private_files import private_folder, write_private
from tools.processes import ProcessFolder
from tools.runs import Runs

START_SECONDS = 240
WARM_UP_SECONDS = 120
METADATA_PASSWORD = "secret_of_metadata"


@dataclass(frozen=True)
class Installation:
    """
    The names, URLs and ports of one installation.

    :param folder: home of Airflow, with its logs.
    :param smtp_port: of the mail server on 127.0.0.1; ``statsd_port`` is that of the StatsD server.
    :param hives: ``{connection id: URL with the server's administrator}``.
    :param addresses: URLs for Airflow, of the hives and of ``metadata``, each with its own user.
    :param metadata_url: of ensembl_metadata, with the server's administrator.
    :param exchange: of the reports.
    :param database: of Airflow on PostgreSQL.
    :param task_queue: of the Celery workers.
    :param environment: variables of Airflow beyond its own, such as connections.
    :param services: as of :class:`AirflowServices`.
    """

    folder: Path
    smtp_port: int
    statsd_port: int
    hives: Mapping[str, str]
    addresses: Mapping[str, str]
    metadata_url: str
    exchange: str
    database: str
    task_queue: str
    environment: Mapping[str, str]
    services: Mapping[str, Sequence[str]]

    @property
    def lookup_files(self) -> dict[str, Path]:
        """Both lookup files by the names of their settings."""
        return lookup_files(self.folder)

    def airflow(self) -> AirflowServices:
        """Return the object that starts and stops Airflow's services."""
        return AirflowServices(
            self.folder,
            server_url=os.environ["POSTGRES_URL"],
            database=self.database,
            environment=self.environment,
            services=self.services,
        )

    def write(self) -> None:
        """Write the description of this installation into its folder."""
        write_private(self.folder / "installation.json", json.dumps(asdict(self), default=str))

    @classmethod
    def read(cls, folder: Path) -> Installation:
        """Return the installation that :meth:`write` wrote into a folder."""
        return cls(**{**json.loads((folder / "installation.json").read_text()), "folder": folder})


def start_in_background(folder: Path, executor: str) -> None:
    """Start the installation of a folder, unless another process has started it already."""
    private_folder(folder.parent)
    with FileLock(folder.parent / "start.lock", timeout=START_SECONDS):
        if not folder.exists():
            private_folder(folder)
            _start_module("installation", folder, executor)


def _start_module(name: str, folder: Path, *arguments: str) -> None:
    """Start a module of this package in the background, in the subfolder of its name."""
    command = [sys.executable, "-m", f"tests.support.{name}", str(folder), *arguments]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "plugins")])}
    ProcessFolder(folder / name).start(command, variables)


def wait_ready(folder: Path) -> Installation:
    """
    Wait for the installation of a folder.

    :raises StackError: it did not start; with the last lines of the log.
    """
    processes = ProcessFolder(folder / "installation")
    processes.wait((folder / "ready").exists, START_SECONDS, "the tests' Airflow")
    return Installation.read(folder)


def start(folder: Path, executor: str) -> None:
    """Create hives, users, an exchange and databases, start Airflow, and create the file ``ready``."""
    installation = _describe(folder, executor)
    installation.write()  # first, so that `remove` finds the parts that exist after a failure
    _create(installation)
    _start_airflow(installation)
    (folder / "ready").touch()


def _describe(folder: Path, executor: str) -> Installation:
    """Return an installation with new names and ports; nothing is created."""
    name = f"test_{uuid4().hex[:16]}"
    server = os.environ["MYSQL_URL"].rstrip("/")
    passwords = {name: hive.password for name, hive in HIVES.items()} | {"metadata": METADATA_PASSWORD}
    addresses = {
        part: f"mysql://{name}_{part}:{password}@{server.rpartition('@')[2]}/{name}_{part}"
        for part, password in passwords.items()
    }
    ports = {"smtp_port": find_free_port(), "statsd_port": find_free_port()}
    return Installation(
        folder=folder,
        **ports,
        hives={hive: f"{server}/{name}_{hive}" for hive in HIVES},
        addresses=addresses,
        metadata_url=f"{server}/{name}_metadata",
        exchange=name,
        database=name,
        task_queue=f"{name}_tasks",
        environment={
            **{f"AIRFLOW_CONN_{hive.upper()}": addresses[hive] for hive in HIVES if hive != "hive_old"},
            "AIRFLOW_CONN_ENSEMBL_METADATA": addresses["metadata"],
            "AIRFLOW_CONN_RABBITMQ_REPORTS": os.environ["RABBITMQ_URL"],
            **environment(folder, **ports),
            "AIRFLOW__EVENT_HOOKS__REPORT_EXCHANGE": name,
            **(celery_environment(f"{name}_tasks") if executor == "celery" else {}),
        },
        services={
            **SERVICES,
            **TRIGGERER_2,
            **(celery_services(f"{name}_tasks") if executor == "celery" else {}),
        },
    )


def _create(installation: Installation) -> None:
    """Create the databases, users, exchange, queue and lookup files of an installation."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(_create_hive, installation.hives.values()))
    with create_engine(parse_url(f"{os.environ['MYSQL_URL'].rstrip('/')}/mysql")).begin() as root:
        root.exec_driver_sql(f"CREATE DATABASE {installation.metadata_url.rpartition('/')[2]}")
        for part, address in installation.addresses.items():
            privileges = "SELECT" if part == "metadata" else "SELECT, INSERT, UPDATE"
            _create_user(root, urlsplit(address), privileges)
    metadata = PracticeMetadata(installation.metadata_url)
    metadata.create()
    metadata.close()
    with closing(pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"]))) as connection:
        channel, name = connection.channel(), installation.exchange
        channel.exchange_declare(name, "topic", durable=True)
        # Reports are mandatory: without a queue, the first one would stay pending
        channel.queue_declare(f"{name}_reports", durable=True)
        channel.queue_bind(f"{name}_reports", name, "report.*")
    write_lookups(installation.folder, installation.addresses["hive_old"])


def _create_hive(url: str) -> None:
    tables.create(url, analyses=("event_dump_dna", "event_dump_peptide"))


def _create_user(root: Connection, address: SplitResult, privileges: str) -> None:
    """Create the user of a URL, with privileges for its database only."""
    name, database = address.username, address.path.strip("/")
    root.exec_driver_sql(f"CREATE USER {name}@'%%' IDENTIFIED BY '{address.password}'")
    root.exec_driver_sql(f"GRANT {privileges} ON {database}.* TO {name}@'%%'")


def _start_airflow(installation: Installation) -> None:
    airflow = installation.airflow()
    _start_module("companions", installation.folder)
    with FileLock(CHECKOUT / ".stack" / "tests" / "template.lock", timeout=START_SECONDS):
        airflow.copy_databases(_prepare_template())
    airflow.start()
    airflow.wait_ready()
    runs = Runs(airflow.url, airflow.log_in)
    runs.request("POST", "/pools", json={"name": "hive_test", "slots": 4}).raise_for_status()
    _warm_up(runs)


def _prepare_template() -> AirflowServices:
    """Return an installation that only has migrated databases; later sessions reuse it."""
    migrations = sorted((CHECKOUT / "plugins/event_hooks/ledger/migrations/versions").glob("*.py"))
    # `airflow db migrate` also creates the tables of FAB, if it is installed
    versions = [version(name).encode() for name in ("apache-airflow", "apache-airflow-providers-fab")]
    content = [*versions, *(file.read_bytes() for file in migrations)]
    name = f"test_template_{hashlib.sha256(b''.join(content)).hexdigest()[:16]}"
    template = AirflowServices(
        CHECKOUT / ".stack" / "tests" / name,
        server_url=os.environ["POSTGRES_URL"],
        database=name,
        environment={},
    )
    if not template.is_prepared():
        template.prepare()
    return template


def _warm_up(runs: Runs) -> None:
    """Run an event: the first run of an Airflow takes several seconds longer than later ones."""
    response = runs.trigger({"type": "new_genebuild", "genome": "warm_up"}, "warm_up")
    response.raise_for_status()
    state = runs.wait_finished("warm_up", WARM_UP_SECONDS)
    if state != "success":
        raise StackError(f"the first run ended as {state}: {runs.load_task_states('warm_up')}")


def remove(folder: Path) -> None:
    """Stop all processes of an installation, and delete its databases, users, exchange, queue and folder."""
    ProcessFolder(folder).stop()
    if (folder / "installation.json").exists():
        installation = Installation.read(folder)
        _drop(installation)
    shutil.rmtree(folder)


def _drop(installation: Installation) -> None:
    with create_engine(parse_url(f"{os.environ['MYSQL_URL'].rstrip('/')}/mysql")).begin() as root:
        for url in (*installation.hives.values(), installation.metadata_url):
            name = url.rpartition("/")[2]
            root.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")
            root.exec_driver_sql(f"DROP USER IF EXISTS {name}@'%%'")
    with closing(pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"]))) as broker:
        task_queues = (installation.task_queue, default_queue(installation.task_queue))
        for exchange in (installation.exchange, *task_queues):
            broker.channel().exchange_delete(exchange)
        for queue in (f"{installation.exchange}_reports", *task_queues):
            broker.channel().queue_delete(queue)
    for database in installation.airflow().databases:
        database.drop()


def main() -> None:
    """Start the installation of the command line."""
    _, folder, executor = sys.argv
    start(Path(folder), executor)


if __name__ == "__main__":
    main()
