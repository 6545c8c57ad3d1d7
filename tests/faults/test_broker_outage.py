"""
RabbitMQ stops while events are unfinished: their reports arrive later, once, and in order.

`make test` stops it for some seconds, with the CeleryExecutor, which then runs no task. `make faults` stops
it for two minutes, with the LocalExecutor, so that tasks run during the outage.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psutil
import pytest

from tests.faults.test_kills import ledger_faults
from tests.support.system import System
from tests.system.events import practice_event, step

SUBMIT_SECONDS = 120.0
"""Timeout until all events that arrive before the outage have a job."""

RECOVERY_SECONDS = 300.0
"""Timeout after the outage: the pauses between retries increase during the outage."""


@pytest.fixture
def outage(request: pytest.FixtureRequest) -> tuple[float, int]:
    """Minimum seconds without RabbitMQ, and the number of events."""
    return (120.0, 50) if request.config.getoption("--rounds") >= 20 else (10.0, 12)


@contextmanager
def broker_stopped() -> Iterator[None]:
    """Stop the broker behind RABBITMQ_URL, which runs on this machine, and start it again."""
    port = urlsplit(os.environ["RABBITMQ_URL"]).port
    listening = [
        connection for connection in psutil.net_connections("tcp") if connection.status == psutil.CONN_LISTEN
    ]
    (pid,) = {connection.pid for connection in listening if connection.laddr.port == port}
    environment = psutil.Process(pid).environ()  # contains the node name and the path of its cookie

    def control(verb: str) -> None:
        command = ["/usr/lib/rabbitmq/bin/rabbitmqctl", verb]
        result = subprocess.run(command, env=environment, capture_output=True, timeout=90, check=False)
        assert result.returncode == 0, result

    control("stop_app")
    try:
        yield
    finally:
        control("start_app")


def test_reports_of_an_outage_arrive_later_once_and_in_order(
    system: System, genome: str, outage: tuple[float, int]
) -> None:
    """Half of the events have jobs when the broker stops, the others arrive during the outage."""
    min_seconds, count = outage
    genomes = [f"{genome}_{index}" for index in range(count)]
    fails = {name: {"fail": "child"} if index % 5 == 0 else {} for index, name in enumerate(genomes)}
    start = lambda name, seconds: system.start(  # noqa: E731
        practice_event(name, "new_genebuild", seconds=seconds, **fails[name])
    )
    early, late = genomes[: count // 2], genomes[count // 2 :]
    runs = {name: start(name, 3) for name in early}
    system.runs.wait_until(
        lambda: count_submitted(system, genome) == len(early),
        SUBMIT_SECONDS,
        lambda: f"{count_submitted(system, genome)} of {len(early)} events have a job id in the ledger",
    )
    stopped_at = time.monotonic()
    with broker_stopped():
        runs |= {name: start(name, 0.2) for name in late}
        system.runs.wait_until(
            lambda: list_pending_runs(system, genome) != [], 120, lambda: "no outcome has a pending report"
        )
        if "worker-1" not in system.airflow.process_folders:
            run_id = list_pending_runs(system, genome)[0]
            log = lambda: system.read_task_log(run_id, "report")  # noqa: E731
            system.runs.wait_until(lambda: "reports are pending" in log(), 60, log)
        time.sleep(max(0.0, min_seconds - (time.monotonic() - stopped_at)))
        assert list_pending_runs(system, genome) != []
    print(f"{count} events, {time.monotonic() - stopped_at:.0f} s without RabbitMQ")
    for name, run_id in runs.items():
        state = "failed" if fails[name] else "success"
        assert system.runs.wait_finished(run_id, RECOVERY_SECONDS) == state, (name, run_id)
    system.run_maintenance()
    system.runs.wait_until(
        lambda: ledger_faults(system, runs.values()) == [], RECOVERY_SECONDS, lambda: "ledger faults"
    )
    for name in genomes:
        reports = {report["message_id"]: report for report in system.all_reports(name)}  # without repetitions
        steps = [step(report) for report in reports.values() if step(report) != "progress"]
        assert steps == ["received", "submitted", "process_finished", "event_finished"], name
        assert system.list_routing_keys(name)[0] == ("report.fatal" if fails[name] else "report.info")


def count_submitted(system: System, genome: str) -> int:
    """Return how many of the events have a job id in the ledger."""
    statement = (
        "SELECT count(DISTINCT event.id) FROM event_process JOIN event ON event.id = event_id"
        " WHERE genome LIKE :genome AND job_id IS NOT NULL"
    )
    ((count,),) = system.ledger_rows(statement, genome=f"{genome}%")
    return int(count)


def list_pending_runs(system: System, genome: str) -> list[str]:
    """Return the runs of the events that have an outcome and a pending report."""
    statement = (
        "SELECT DISTINCT event.run_id FROM event_process JOIN event ON event.id = event_id"
        " JOIN report ON report.run_id = event.run_id"
        " WHERE genome LIKE :genome AND state IN ('complete', 'failed') AND sent_at IS NULL"
    )
    return [run_id for (run_id,) in system.ledger_rows(statement, genome=f"{genome}%")]
