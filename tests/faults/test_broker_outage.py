"""
RabbitMQ stops while events are under way: their reports arrive later, once, and in order.

`make test` stops it for some seconds, with the CeleryExecutor, which then runs no task. `make faults` stops
it for two minutes, with the LocalExecutor, so that tasks run meanwhile.
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

pytestmark = pytest.mark.alone

RECOVERY = 300.0
"""Seconds after which all must be over: the pauses between retries have grown meanwhile."""


@pytest.fixture
def outage(request: pytest.FixtureRequest) -> tuple[float, int]:
    """Seconds without RabbitMQ, and the number of events."""
    return (120.0, 50) if request.config.getoption("--rounds") >= 20 else (10.0, 12)


@contextmanager
def broker_stopped() -> Iterator[None]:
    """Stop the broker behind RABBITMQ_URL, which runs on this machine, and start it again."""
    port = urlsplit(os.environ["RABBITMQ_URL"]).port
    listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    (pid,) = {one.pid for one in listening if one.laddr.port == port}
    environment = psutil.Process(pid).environ()  # it names the node, and the place of its cookie

    def control(verb: str) -> None:
        command = ["/usr/lib/rabbitmq/bin/rabbitmqctl", verb]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=90, check=False)
        assert done.returncode == 0, done

    control("stop_app")
    try:
        yield
    finally:
        control("start_app")


def test_reports_of_an_outage_arrive_later_once_and_in_order(
    system: System, genome: str, outage: tuple[float, int]
) -> None:
    """Half of the events wait for their jobs when the broker stops, the others arrive during the outage."""
    least_seconds, count = outage
    genomes = [f"{genome}_{index}" for index in range(count)]
    fails = {name: {"fail": "child"} if index % 5 == 0 else {} for index, name in enumerate(genomes)}
    start = lambda name, seconds: system.start(  # noqa: E731
        practice_event(name, "new_genebuild", seconds=seconds, **fails[name])
    )
    early, late = genomes[: count // 2], genomes[count // 2 :]
    runs = {name: start(name, 3) for name in early}
    for run_id in runs.values():
        system.until_task(run_id, "dump_peptide.wait", "deferred")
    began = time.monotonic()
    with broker_stopped():
        runs |= {name: start(name, 0.2) for name in late}
        system.runs.until(
            lambda: pending_outcomes(system, genome) > 0, 120, lambda: "no outcome has a pending report"
        )
        if "worker-1" not in system.airflow.places:
            log = lambda: system.log(runs[late[0]], "report")  # noqa: E731
            system.runs.until(lambda: "reports are owed" in log(), 60, log)
        time.sleep(max(0.0, least_seconds - (time.monotonic() - began)))
        assert pending_outcomes(system, genome) > 0
    print(f"{count} events, {time.monotonic() - began:.0f} s without RabbitMQ")
    for name, run_id in runs.items():
        state = "failed" if fails[name] else "success"
        assert system.runs.until_over(run_id, RECOVERY) == state, (name, run_id)
    system.tend()
    system.runs.until(lambda: ledger_faults(system, runs.values()) == [], RECOVERY, lambda: "ledger faults")
    for name in genomes:
        reports = {report["message_id"]: report for report in system.all_reports(name)}  # the first of each
        steps = [step(report) for report in reports.values() if step(report) != "progress"]
        assert steps == ["received", "submitted", "process_finished", "event_finished"], name
        assert system.keys(name)[0] == ("report.fatal" if fails[name] else "report.info")


def pending_outcomes(system: System, genome: str) -> int:
    """Return how many of the events have an outcome and a pending report."""
    statement = (
        "SELECT count(DISTINCT event.id) FROM event_process JOIN event ON event.id = event_id"
        " JOIN report ON report.run_id = event.run_id"
        " WHERE genome LIKE :genome AND state IN ('complete', 'failed') AND sent_at IS NULL"
    )
    ((count,),) = system.ledger_rows(statement, genome=f"{genome}%")
    return int(count)
