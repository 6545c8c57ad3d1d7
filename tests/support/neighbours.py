"""What a running Airflow speaks to: three hives, workers in two of them, and an exchange of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from uuid import uuid4

import pika
import pytest
from sqlalchemy import create_engine

from tests.support.practice_hive import tables
from tests.support.practice_hive.database import parse
from tests.support.practice_hive.worker import Worker
from tests.support.practice_metadata import PracticeMetadata

SECRETS = ("secret_of_one_hive", "secret_of_the_other", "secret_of_the_idle")
"""The passwords with which Airflow reaches the hives."""

IDLE = 2
"""The hive that nobody works in."""


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
def practice_metadata() -> Iterator[tuple[PracticeMetadata, str]]:
    """An ensembl_metadata, and the address by which Airflow reads it."""
    server, name = os.environ["MYSQL_URL"].rstrip("/"), f"metadata_{uuid4().hex[:16]}"
    with create_engine(parse(f"{server}/mysql")).begin() as root:
        root.exec_driver_sql(f"CREATE DATABASE {name}")
        root.exec_driver_sql(f"CREATE USER {name}@'%%' IDENTIFIED BY 'secret_of_metadata'")
        root.exec_driver_sql(f"GRANT SELECT ON {name}.* TO {name}@'%%'")
    made = PracticeMetadata(f"{server}/{name}")
    made.create()
    yield made, f"mysql://{name}:secret_of_metadata@{server.rpartition('@')[2]}/{name}"
    made.close()
    with create_engine(parse(f"{server}/mysql")).begin() as root:
        root.exec_driver_sql(f"DROP DATABASE {name}")
        root.exec_driver_sql(f"DROP USER {name}@'%%'")


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
