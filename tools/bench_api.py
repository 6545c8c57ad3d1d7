"""
Measure what ``POST /event-hooks/jobs`` costs, and write ``docs/bench-api.md``.

Run by ``make bench-api``: one Airflow with one process of the API server, and a hive that nobody works in, so
that what is READY stays so. Everything runs on this one machine, the runs that follow included.
"""

from __future__ import annotations

import logging
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pika
import psutil
import requests
from sqlalchemy import Engine, create_engine

from tests.support.practice_hive import tables
from tests.support.practice_hive.database import parse
from tools.airflow_services import CHECKOUT, AirflowServices
from tools.bench_hive import machine

REPORT = Path(__file__).parents[1] / "docs" / "bench-api.md"
ANALYSES = ("event_dump_dna", "event_dump_peptide")
AT_A_TIME = 8
FAILING = 10  # each tenth job of the burst fails
OUTCOME_SECONDS = 600


@dataclass(frozen=True)
class Measured:
    """One figure, and what it may be at most or must be at least."""

    step: str
    value: float
    unit: str
    bar: str = ""
    is_good: bool = True


class Bench:
    """A warm API server and what it writes to."""

    def __init__(self, airflow: AirflowServices, hive: Engine, ledger: Engine) -> None:
        self.airflow = airflow
        self.hive = hive
        self.ledger = ledger
        self._token = airflow.token()
        self._mark = uuid4().hex[:8]

    def run(self) -> Iterator[Measured]:
        """Yield each figure, once it is measured."""
        self._until_quiet()  # its services have just started
        self._post_each(self._events("warm up", 50), AT_A_TIME)
        self._until_quiet()
        api = self._api_server()
        before = api.cpu_times()
        seconds = self._post_each(self._events("alone", 200), 1)
        after = api.cpu_times()
        median = 1000 * statistics.median(seconds)
        yield Measured("one after another: median", median, "ms", "< 30", median < 30)
        yield Measured("one after another: 95 %", 1000 * statistics.quantiles(seconds, n=20)[18], "ms")
        cpu = 1000 * (after.user + after.system - before.user - before.system) / 200
        yield Measured("one after another: CPU of the API server", cpu, "ms/event")
        self._until_quiet()
        events = self._events("eight", 200)
        began = time.monotonic()
        self._post_each(events, AT_A_TIME)
        rate = 200 / (time.monotonic() - began)
        yield Measured(f"200 events, {AT_A_TIME} at a time", rate, "events/s", ">= 120", rate >= 120)
        yield self._none_lost(events)
        self._until_quiet()
        yield from self._burst()

    def _burst(self) -> Iterator[Measured]:
        events = self._events("burst", 1000)
        runs = self._runs()
        began = time.monotonic()
        self._post_each(events, AT_A_TIME)
        yield Measured("burst of 1,000", 1000 / (time.monotonic() - began), "events/s")
        yield self._none_lost(events)
        time.sleep(3)
        count = self._runs() - runs
        yield Measured("runs that followed", count, "runs", "<= 20", count <= 20)
        self._finish_jobs()
        began = time.monotonic()
        self._until(lambda: not self._open(), OUTCOME_SECONDS, "all outcomes")
        yield Measured("jobs over to all 2,000 outcomes in the ledger", time.monotonic() - began, "s")
        wrong = self._wrong_outcomes()
        yield Measured("outcomes that are wrong", wrong, "", "0", wrong == 0)

    def _events(self, name: str, count: int) -> list[dict[str, Any]]:
        mark = f"{self._mark} {name}"
        return [
            {"type": "new_assembly", "genome": f"{name} {n}", "event_id": f"{mark} {n}"} for n in range(count)
        ]

    def _post_each(self, events: list[dict[str, Any]], at_a_time: int) -> list[float]:
        """Post them, each answer a 201 with all job ids, and give the seconds of each."""

        def post(some: list[dict[str, Any]]) -> list[float]:
            session = requests.Session()
            session.trust_env = False
            session.headers["Authorization"] = f"Bearer {self._token}"
            seconds = []
            for event in some:
                began = time.perf_counter()
                answer = session.post(f"{self.airflow.url}/event-hooks/jobs", json=event, timeout=60)
                seconds.append(time.perf_counter() - began)
                if answer.status_code != 201 or not all(one["job"] for one in answer.json()["processes"]):
                    raise RuntimeError(f"{answer.status_code}: {answer.text}")
            return seconds

        with ThreadPoolExecutor(at_a_time) as pool:
            parts = pool.map(post, (events[n::at_a_time] for n in range(at_a_time)))
            return [one for part in parts for one in part]

    def _none_lost(self, events: list[dict[str, Any]]) -> Measured:
        """Count in the hive: each event has one READY job per analysis."""
        names = [event["event_id"] for event in events]
        rows = self._ask(
            self.hive,
            "SELECT COUNT(*), COUNT(DISTINCT analysis_id, COALESCE(data, input_id)) FROM job"
            " LEFT JOIN analysis_data ON input_id = CONCAT('_extended_data_id ', analysis_data_id)"
            f" WHERE status = 'READY' AND COALESCE(data, input_id) LIKE '%%{names[0].rpartition(' ')[0]} %%'",
        )
        off = sum(abs(count - len(ANALYSES) * len(events)) for count in rows[0])
        return Measured("lost or doubled", off, "jobs", "0", off == 0)

    def _finish_jobs(self) -> None:
        with self.hive.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO log_message (job_id, retry, status, message_class, msg)"
                " SELECT job_id, 0, 'RUN', 'WORKER_ERROR', 'disk full' FROM job"
                f" WHERE job_id %% {FAILING} = 0"
            )
            connection.exec_driver_sql(
                f"UPDATE job SET status = IF(job_id %% {FAILING} = 0, 'FAILED', 'DONE')"
                " WHERE status = 'READY'"
            )

    def _wrong_outcomes(self) -> int:
        statement = (
            "SELECT COUNT(*) FROM event_process WHERE state <>"
            f" CASE WHEN job_id %% {FAILING} = 0 THEN 'failed' ELSE 'complete' END"
        )
        return int(self._ask(self.ledger, statement)[0][0])

    def _open(self) -> int:
        statement = "SELECT COUNT(*) FROM event_process WHERE state IN ('planned', 'submitted')"
        return int(self._ask(self.ledger, statement)[0][0])

    def _runs(self) -> int:
        return int(self._ask(self.ledger, "SELECT COUNT(DISTINCT run_id) FROM event")[0][0])

    def _until_quiet(self) -> None:
        """Wait until the runs that came before only wait for their jobs."""
        self._until(lambda: psutil.cpu_percent(1) < 40, 300, "a quiet machine")

    @staticmethod
    def _until(is_so: Any, limit: float, what: str) -> None:
        end = time.monotonic() + limit
        while not is_so():
            if time.monotonic() > end:
                raise TimeoutError(f"no {what} within {limit:.0f} s")
            time.sleep(0.5)

    def _api_server(self) -> psutil.Process:
        leader = self.airflow.places["api-server"].leader()
        if leader is None:
            raise RuntimeError("the API server is gone")
        return psutil.Process(leader.pid)

    @staticmethod
    def _ask(engine: Engine, statement: str) -> list[Any]:
        with engine.connect() as connection:
            return list(connection.exec_driver_sql(statement))


@contextmanager
def broker() -> Iterator[Any]:
    """Open a channel for a moment: in minutes without a word, RabbitMQ would close it."""
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"]))
    yield connection.channel()
    connection.close()


@contextmanager
def bench() -> Iterator[Bench]:
    """Start an Airflow of its own, and end it with all that it wrote."""
    name = f"bench_{uuid4().hex[:16]}"
    hive_url = f"{os.environ['MYSQL_URL'].rstrip('/')}/{name}"
    tables.create(hive_url, analyses=ANALYSES)
    database = f"{os.environ['POSTGRES_URL'].rpartition('/')[0]}/{name}"
    folder = CHECKOUT / ".stack" / "tests" / name
    folder.mkdir(parents=True, mode=0o700)
    with broker() as channel:
        channel.exchange_declare(name, "topic", durable=True)
    airflow = AirflowServices(
        folder,
        database_url=database,
        environment={
            "AIRFLOW_CONN_HIVE_EVENT_HANDLING": hive_url,
            "AIRFLOW_CONN_RABBITMQ_REPORTS": os.environ["RABBITMQ_URL"],
            "AIRFLOW__EVENT_HOOKS__REPORT_EXCHANGE": name,
            "AIRFLOW__EVENT_HOOKS__REPORT_UNROUTABLE": "accept",
            **{
                f"AIRFLOW__EVENT_HOOKS__{kind}_LOOKUP": str(
                    CHECKOUT / "lookups" / f"{kind.lower()}_lookup.json"
                )
                for kind in ("EVENT", "PROCESS")
            },
        },
    )
    try:
        airflow.prepare()
        airflow.start()
        airflow.wait_ready()
        hive, ledger = create_engine(parse(hive_url)), create_engine(airflow.ledger_url)
        yield Bench(airflow, hive, ledger)
        hive.dispose()
        ledger.dispose()
    finally:
        airflow.stop()
        with broker() as channel:
            channel.exchange_delete(name)
        with create_engine(parse(hive_url), isolation_level="AUTOCOMMIT").connect() as root:
            root.exec_driver_sql(f"DROP DATABASE {name}")
        server = create_engine(os.environ["POSTGRES_URL"], isolation_level="AUTOCOMMIT")
        with server.connect() as root:
            for one in (name, f"{name}_ledger"):
                root.exec_driver_sql(f"DROP DATABASE IF EXISTS {one} WITH (FORCE)")
        shutil.rmtree(folder)


def table(measured: list[Measured]) -> str:
    """Write a Markdown table."""
    rows = [f"| {one.step} | {one.value:,.1f} {one.unit} | {one.bar} |" for one in measured]
    return "\n".join(["| What | Measured | Bar |", "| --- | ---: | ---: |", *rows])


def main() -> int:
    """Measure, print, and keep the table."""
    logging.getLogger("pika").setLevel(logging.WARNING)
    measured = []
    with bench() as one:
        for found in one.run():
            print(f"{found.value:10.1f} {found.unit:9} {found.step}", flush=True)
            measured.append(found)
    REPORT.write_text(
        f"# Events over HTTP\n\nBy `make bench-api`. {machine('PostgreSQL, MariaDB, RabbitMQ on it')}.\n\n"
        f"{table(measured)}\n"
    )
    print(f"\n{table(measured)}\n\nKept in {REPORT}")
    return 0 if all(one.is_good for one in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
