"""
Benchmark of ``POST /event-hooks/jobs``.

The hive of the separate Airflow has no workers, so jobs stay READY. All processes run on this machine,
including the runs that the events start.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tools.bench.environment import ANALYSES, Environment, bench_environment, wait_until
from tools.bench.measurement import Measurement

if TYPE_CHECKING:
    import requests

THREADS = 8
FAILING_STEP = 10  # each tenth job of the burst fails
OUTCOME_SECONDS = 600


class Bench:
    """A warm API server, and the databases that it writes to."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.hive, self.ledger = environment.hive, environment.ledger

    def run(self) -> Iterator[Measurement]:
        """Yield each measurement as soon as it is complete."""
        self.warm_up()
        yield from self.measure_latency(200)
        yield from self.measure_rate(200, 8, min_rate=120)
        yield from self.measure_rate(2000, 32, max_milliseconds=400)
        self.finish()
        yield from self._measure_burst()

    def warm_up(self) -> None:
        """Wait until the services are started, and submit the first events."""
        self.environment.wait_until_idle()
        self._post_each(self._events("warm up", 50), THREADS, is_warm_up=True)
        self.environment.wait_until_idle()

    def measure_latency(self, count: int) -> Iterator[Measurement]:
        """Submit events one after another."""
        cpu_before = self.environment.measure_cpu("api-server")
        seconds = self._post_each(self._events("alone", count), 1)
        cpu = self.environment.measure_cpu("api-server") - cpu_before
        name = "one after another"
        yield Measurement(f"{name}: median", 1000 * statistics.median(seconds), "ms", at_most=30)
        yield Measurement(f"{name}: 95 %", 1000 * statistics.quantiles(seconds, n=20)[18], "ms")
        yield Measurement(f"{name}: CPU of the API server", 1000 * cpu / count, "ms/event")
        self.environment.wait_until_idle()

    def measure_rate(
        self,
        count: int,
        threads: int,
        *,
        min_rate: float | None = None,
        max_milliseconds: float | None = None,
    ) -> Iterator[Measurement]:
        """
        Submit events concurrently.

        :param min_rate: limit of the events per second.
        :param max_milliseconds: limit of the longest reply.
        """
        events, runs_before = self._events(f"at {threads}", count), self._count_runs()
        started = time.monotonic()
        seconds = self._post_each(events, threads)
        rate = count / (time.monotonic() - started)
        name = f"{count:,} events, {threads} at a time"
        yield Measurement(name, rate, "events/s", at_least=min_rate)
        yield Measurement(f"{name}: 95 %", 1000 * statistics.quantiles(seconds, n=20)[18], "ms")
        yield Measurement(f"{name}: longest reply", 1000 * max(seconds), "ms", at_most=max_milliseconds)
        yield self._count_lost_jobs(name, events)
        self.environment.wait_until_idle()
        yield Measurement(f"{name}: runs", self._count_runs() - runs_before, "")

    def _measure_burst(self) -> Iterator[Measurement]:
        events = self._events("burst", 1000)
        runs_before = self._count_runs()
        started = time.monotonic()
        self._post_each(events, THREADS)
        yield Measurement("burst of 1,000", 1000 / (time.monotonic() - started), "events/s")
        yield self._count_lost_jobs("burst of 1,000", events)
        time.sleep(3)
        count = self._count_runs() - runs_before
        yield Measurement("runs of the burst", count, "runs", at_most=20)
        self._finish_jobs()
        started = time.monotonic()
        wait_until(lambda: not self._count_unfinished(), OUTCOME_SECONDS, "all outcomes")
        yield Measurement(
            "jobs finished to all 2,000 outcomes in the ledger", time.monotonic() - started, "s"
        )
        yield Measurement("wrong outcomes", self._count_wrong_outcomes(), "", at_most=0)

    def _events(self, name: str, count: int) -> list[dict[str, Any]]:
        mark = f"{uuid4().hex[:8]} {name}"
        return [
            {"type": "new_assembly", "genome": f"{name} {index}", "event_id": f"{mark} {index}"}
            for index in range(count)
        ]

    def _post_each(
        self, events: list[dict[str, Any]], threads: int, *, is_warm_up: bool = False
    ) -> list[float]:
        """
        Submit each event in a request of its own, and return the seconds of each request.

        :raises RuntimeError: an answer is not a 201 with all job ids; not checked in a warm-up.
        """

        def post(part: list[dict[str, Any]]) -> list[float]:
            session, seconds = self.environment.open_session(), []
            for event in part:
                started = time.perf_counter()
                response = session.post(
                    f"{self.environment.airflow.url}/event-hooks/jobs", json=event, timeout=60
                )
                seconds.append(time.perf_counter() - started)
                response.raise_for_status()
                if not is_warm_up:
                    _check_has_jobs(response)
            return seconds

        with ThreadPoolExecutor(threads) as pool:
            parts = pool.map(post, (events[start::threads] for start in range(threads)))
            return [seconds for part in parts for seconds in part]

    def _count_lost_jobs(self, name: str, events: list[dict[str, Any]]) -> Measurement:
        """Count the jobs in the hive: each event has one READY job per analysis."""
        prefix = events[0]["event_id"].rpartition(" ")[0]
        rows = self.environment.fetch_rows(
            self.hive,
            "SELECT COUNT(*), COUNT(DISTINCT analysis_id, COALESCE(data, input_id)) FROM job"
            " LEFT JOIN analysis_data ON input_id = CONCAT('_extended_data_id ', analysis_data_id)"
            f" WHERE status = 'READY' AND COALESCE(data, input_id) LIKE '%%{prefix} %%'",
        )
        difference = sum(abs(count - len(ANALYSES) * len(events)) for count in rows[0])
        return Measurement(f"{name}: lost or duplicate jobs", difference, "jobs", at_most=0)

    def finish(self) -> None:
        """Finish all jobs, also those that are submitted meanwhile, and wait for their outcomes."""

        def is_finished() -> bool:
            self._finish_jobs()
            return not self._count_unfinished()

        wait_until(is_finished, OUTCOME_SECONDS, "all outcomes")
        self.environment.wait_until_idle()

    def _finish_jobs(self) -> None:
        with self.hive.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO log_message (job_id, retry, status, message_class, msg)"
                " SELECT job_id, 0, 'RUN', 'WORKER_ERROR', 'disk full' FROM job"
                f" WHERE status = 'READY' AND job_id %% {FAILING_STEP} = 0"
            )
            connection.exec_driver_sql(
                f"UPDATE job SET status = IF(job_id %% {FAILING_STEP} = 0, 'FAILED', 'DONE'),"
                " when_completed = NOW() WHERE status = 'READY'"
            )

    def _count_wrong_outcomes(self) -> int:
        statement = (
            "SELECT COUNT(*) FROM event_process WHERE state <>"
            f" CASE WHEN job_id %% {FAILING_STEP} = 0 THEN 'failed' ELSE 'complete' END"
        )
        return int(self.environment.fetch_rows(self.ledger, statement)[0][0])

    def _count_unfinished(self) -> int:
        statement = "SELECT COUNT(*) FROM event_process WHERE state IN ('planned', 'submitted')"
        return int(self.environment.fetch_rows(self.ledger, statement)[0][0])

    def _count_runs(self) -> int:
        return int(self.environment.fetch_rows(self.ledger, "SELECT COUNT(DISTINCT run_id) FROM event")[0][0])


def _check_has_jobs(response: requests.Response) -> None:
    if response.status_code != 201 or not all(process["job"] for process in response.json()["processes"]):
        raise RuntimeError(f"{response.status_code}: {response.text}")


def measure() -> Iterator[Measurement]:
    """Yield each measurement as soon as it is complete."""
    logging.getLogger("pika").setLevel(logging.WARNING)
    with bench_environment() as environment:
        yield from Bench(environment).run()
