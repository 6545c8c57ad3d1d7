"""
RabbitMQ is stopped while events are under way: what it misses arrives later, once, and in order.

`make faults` stops it for two minutes under 50 events, `make test` for some seconds under 12.
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

from tests.faults.test_kills import check_ledger
from tests.support.running_airflow import System
from tests.system.test_process_event import event

RECOVERY = 300.0
"""Seconds after which all must be over: the pauses between tries have grown meanwhile."""


@pytest.fixture
def outage(request: pytest.FixtureRequest) -> tuple[float, int]:
    """Seconds without RabbitMQ, and events meanwhile: as many as 20 rounds of kills are worth, or few."""
    return (120.0, 50) if request.config.getoption("--rounds") >= 20 else (15.0, 12)


@contextmanager
def broker_stopped() -> Iterator[None]:
    """Stop the broker behind RABBITMQ_URL, which runs on this machine, and start it again."""
    port = urlsplit(os.environ["RABBITMQ_URL"]).port
    listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    (pid,) = {one.pid for one in listening if one.laddr.port == port}
    environment = psutil.Process(pid).environ()  # which names its node, and where its cookie is

    def control(word: str) -> None:
        command = ["/usr/lib/rabbitmq/bin/rabbitmqctl", word]
        said = subprocess.run(command, env=environment, capture_output=True, timeout=90, check=False)
        assert said.returncode == 0, said

    control("stop_app")
    try:
        yield
    finally:
        control("start_app")


def test_what_a_broker_misses_arrives_later_once_and_in_order(
    system: System, genome: str, outage: tuple[float, int]
) -> None:
    least, count = outage
    genomes = [f"{genome}_{n}" for n in range(count)]
    fails = {name: {"fail": "child"} if n % 5 == 0 else {} for n, name in enumerate(genomes)}
    began = time.monotonic()
    with broker_stopped():
        runs = {
            name: system.start(event(name, "new_genebuild", seconds=0.2, **fails[name])) for name in genomes
        }
        started = time.monotonic()
        until_ended_in_hive(system, len(genomes))
        tasks = {name: system.runs.task_states(run_id) for name, run_id in runs.items()}
        shown = lambda: system.log(runs[genomes[0]], "report")  # noqa: E731
        system.runs.until(lambda: "reports are owed" in shown(), 60, shown)
        time.sleep(max(0.0, least - (time.monotonic() - began)))
    print(f"{count} events in {started - began:.0f} s, {time.monotonic() - began:.0f} s without RabbitMQ")
    for name, run_id in runs.items():
        wanted = "failed" if fails[name] else "success"
        assert system.runs.until_over(run_id, RECOVERY) == wanted, (run_id, tasks[name])
    system.tend()
    system.runs.until(lambda: check_ledger(system)[0] == 0, RECOVERY, lambda: "the ledger does not agree")
    for name in genomes:
        reports = {report["message_id"]: report for report in system.all_reports(name)}  # the first of each
        steps = [report["params"]["event_hooks"]["step"] for report in reports.values()]
        steps = [step for step in steps if step != "progress"]
        assert steps == ["received", "submitted", "ended", "finished"], name
        assert system.keys(name)[0] == ("report.fatal" if fails[name] else "report.info")


def until_ended_in_hive(system: System, count: int) -> None:
    """Wait until the last of these events has gone as far as it comes without a broker."""

    def is_so() -> bool:
        rows = system.runs.ask(
            "GET", "/dags/process_event/dagRuns/~/taskInstances?state=up_for_retry&limit=1000"
        ).json()["task_instances"]
        return sum(one["task_id"] == "report" for one in rows) >= count // 2

    system.runs.until(is_so, 120, lambda: "the reports of these runs are not tried")
