"""Event hooks on several machines, all of them this one: Celery workers, two triggerers, and some die."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from uuid import uuid4

import pika
import psutil
import pytest

from tests.faults.load import Load
from tests.support.running_airflow import System
from tools.airflow_services import SERVICES
from tools.processes import ProcessFolder
from tools.runs import DAG

LIMIT = 240.0
"""Seconds in which all runs must be over, kills included."""

LOADS = 10
"""Each has three events in two runs."""


@pytest.fixture(scope="module")
def queue() -> Iterator[str]:
    """A queue of tasks of this test's own."""
    name = f"event_{uuid4().hex[:12]}"
    yield name
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"]))
    connection.channel().queue_delete(name)
    connection.channel().exchange_delete(name)
    connection.close()


@pytest.fixture(scope="module")
def several_machines(
    folder: Path, start: Callable[..., AbstractContextManager[System]], queue: str
) -> Iterator[System]:
    """Airflow with Celery over RabbitMQ, two workers and two triggerers; it ends before the other starts."""
    worker = ["celery", "worker", "--queues", queue, "--concurrency", "4", "--skip-serve-logs"]
    with start(
        folder / "distributed",
        services={
            **SERVICES,
            "triggerer-2": ["triggerer", "--skip-serve-logs"],
            **{name: [*worker, "--celery-hostname", f"{name}@%h"] for name in ("worker-1", "worker-2")},
        },
        AIRFLOW__CORE__EXECUTOR="CeleryExecutor",
        AIRFLOW__CELERY__BROKER_URL=os.environ["RABBITMQ_URL"],
        AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS="event_hooks.celery_settings.SETTINGS",
        AIRFLOW__EVENT_HOOKS__TASK_QUEUE=queue,
    ) as system:
        yield system


def test_a_worker_and_a_triggerer_may_die_among_30_events(several_machines: System) -> None:
    system, name = several_machines, f"genome_{uuid4().hex[:12]}"
    loads = [Load(system, f"{name}_{at}_", single_fails=at % 2 == 0) for at in range(LOADS)]
    until = system.runs.until
    until(lambda: is_busy(system.airflow.places["worker-1"]), 60, lambda: "the worker has no task")
    system.airflow.kill("worker-1")
    until(lambda: waiting(system) >= 2, 120, lambda: f"{waiting(system)} waits at a time")
    system.airflow.kill("triggerer-2")
    killed = time.monotonic()
    assert not all(load.is_over() for load in loads)
    until(lambda: all(load.is_over() for load in loads), LIMIT, lambda: str([load.steps() for load in loads]))
    print(f"all {3 * LOADS} events over {time.monotonic() - killed:.0f} s after the second kill")
    assert [fault for load in loads for fault in load.faults()] == []


def is_busy(worker: ProcessFolder) -> bool:
    """Tell whether a Celery worker works: the process that has a task starts another one for it."""
    leader = worker.leader()
    with suppress(psutil.NoSuchProcess):
        return bool(leader and any(one.children() for one in leader.children()))
    return False


def waiting(system: System) -> int:
    """Count the waits that a triggerer has, by one question: they are short."""
    answer = system.runs.ask("GET", f"{DAG}/dagRuns/~/taskInstances?state=deferred&limit=1")
    return int(answer.json()["total_entries"])
