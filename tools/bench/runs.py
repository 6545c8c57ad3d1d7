"""
Benchmark of events from the request to the report.

One Airflow with the default settings runs on this machine. Its hive has no workers: a job stays READY until
the benchmark sets it to DONE, so the measured costs are those of event hooks and Airflow only.
"""

from __future__ import annotations

import json
import logging
import os
import random
import statistics
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pika

from tools.bench.environment import Environment, bench_environment, wait_until
from tools.bench.measurement import Measurement
from tools.runs import Runs

THREADS = 8
SETTLE_SECONDS = 100
"""Ten times ``max_poll_interval``: after it, waiting jobs are polled at the longest interval."""

WAITING_SECONDS = 120
"""Duration of a measurement of waiting jobs."""

MAX_SECONDS = 900
"""Timeout for the reports of all jobs."""

DELAY_JOBS = 60
"""Jobs that finish one by one in the measurement of delays."""


class Reports(threading.Thread):
    """
    A thread that receives all reports.

    :ivar finished: monotonic time of the report on each genome's finished process.
    :ivar count: number of all reports so far.
    """

    def __init__(self, queue: str) -> None:
        super().__init__(daemon=True)
        self.queue = queue
        self.count = 0
        self.finished: dict[str, float] = {}

    def run(self) -> None:
        """Receive reports until the process ends."""
        connection = pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"]))
        for _, _, body in connection.channel().consume(self.queue, auto_ack=True):
            report = json.loads(body)
            self.count += 1
            if report["params"]["event_hooks"]["step"] == "process_finished":
                self.finished[report["resource"]] = time.monotonic()


class Bench:
    """A warm system, and the reports that it publishes."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.runs = Runs(environment.airflow.url, environment.airflow.log_in)
        self.reports = Reports(environment.queue)
        self._mark = uuid4().hex[:8]

    def run(self) -> Iterator[Measurement]:
        """Yield each measurement as soon as it is complete."""
        self.warm_up()
        idle = yield from self.measure_idle(30)
        yield from self.measure_single_events(10, idle)
        yield from self._measure_concurrent_events(idle)
        yield from self._submit_and_measure_waiting(1000)
        yield from self._measure_delays(1000)
        self._finish_all("1000 waiting", 1000)
        yield from self._measure_batch(10_000)
        yield from self._measure_waiting(10_000)
        started = time.monotonic()
        self._finish_all("10000 waiting", 10_000)
        yield Measurement("10,000 jobs DONE to 10,000 reports", time.monotonic() - started, "s")
        memory = self.environment.measure_memory()
        yield Measurement("memory of all services, without shared memory", memory, "MiB")

    def warm_up(self) -> None:
        """Wait until the services are started, and process the first events."""
        self.reports.start()
        self.environment.wait_until_idle()
        self._post_each(self._events("warm up", 20), 1)
        self._finish_all("warm up", 20)
        self.environment.wait_until_idle()

    def measure_idle(self, seconds: float) -> Generator[Measurement, None, float]:
        """Measure the CPU of a system without unfinished events, and return it as cores."""
        before = self.environment.measure_cpu()
        time.sleep(seconds)
        cores = (self.environment.measure_cpu() - before) / seconds
        yield Measurement("idle: CPU of all of Airflow", 100 * cores, "% of a core", at_most=12)
        return cores

    def measure_single_events(self, count: int, idle: float) -> Iterator[Measurement]:
        """Submit events so slowly that each has its own run, and finish each."""
        delays, genomes = [], f"alone {uuid4().hex[:8]}"
        cpu_before, started = self.environment.measure_cpu(), time.monotonic()
        for index in range(count):
            event = {"type": "new_genebuild", "genome": f"{self._prefix(genomes)}{index}_"}
            delays.append(self.environment.submit_until_wait(event)[1])
            self._finish_all(f"{genomes} {index}", 1)
        self.environment.wait_until_idle()
        cpu = self.environment.measure_cpu() - cpu_before - idle * (time.monotonic() - started)
        name = "an event alone in its run"
        yield Measurement(f"{name}: CPU of all of Airflow", 1000 * cpu / count, "ms/event", at_most=1500)
        yield Measurement(f"{name}: from the request to the wait, median", statistics.median(delays), "s")
        delay = self._load_longest_report_delay(count)
        yield Measurement(f"{name}: from a stored report to RabbitMQ, longest", delay, "s", at_most=1)

    def _load_longest_report_delay(self, count: int) -> float:
        """Return the longest seconds for which a report of the last events was, or still is, pending."""
        statement = (
            "SELECT MAX(EXTRACT(EPOCH FROM COALESCE(sent_at, TIMEZONE('UTC', NOW())) - created_at))"
            " FROM report WHERE event_id IN"
            f" (SELECT id FROM event ORDER BY id DESC LIMIT {count})"
        )
        return float(self.environment.fetch_rows(self.environment.ledger, statement)[0][0])

    def _measure_concurrent_events(self, idle: float) -> Iterator[Measurement]:
        count, name = 200, "eight"
        cpu_before = self.environment.measure_cpu()
        statements_before, reports_before = self.environment.count_statements(), self.reports.count
        started = time.monotonic()
        finisher = threading.Thread(target=self._finish_all, args=[name, count])
        finisher.start()
        self._post_each(self._events(name, count), THREADS)
        finisher.join()
        seconds = time.monotonic() - started
        self.environment.wait_until_idle()  # the runs finish after their reports
        cpu = self.environment.measure_cpu() - cpu_before - idle * (time.monotonic() - started)
        statements = self.environment.count_statements() - statements_before
        step = f"{count} events, {THREADS} at a time, to the last report on a finished process"
        yield Measurement(step, seconds, "s")
        yield Measurement("CPU of all of Airflow", 1000 * cpu / count, "ms/event")
        yield Measurement("SQL statements to the hive", statements / count, "/event")
        yield Measurement("messages to RabbitMQ", (self.reports.count - reports_before) / count, "/event")

    def _submit_and_measure_waiting(self, count: int) -> Iterator[Measurement]:
        events = self._events(f"{count} waiting", count)
        for start in range(0, count, 500):
            self._post_array(events[start : start + 500])
        yield from self._measure_waiting(count)

    def _measure_waiting(self, count: int) -> Iterator[Measurement]:
        time.sleep(SETTLE_SECONDS)
        before = self.environment.measure_cpu("triggerer"), self.environment.count_statements()
        time.sleep(WAITING_SECONDS)
        cpu = 100 * (self.environment.measure_cpu("triggerer") - before[0]) / WAITING_SECONDS
        statements = 60 * (self.environment.count_statements() - before[1]) / WAITING_SECONDS
        name = f"{count:,} jobs waiting"
        yield Measurement(f"{name}: CPU of the triggerer", cpu, "% of a core", at_most=10)
        step = f"{name}: SQL statements to the hive"
        yield Measurement(step, statements, "/min", at_most=100)

    def _measure_delays(self, count: int) -> Iterator[Measurement]:
        """Finish some jobs one by one, while the other jobs wait."""
        chance, done = random.Random(1), {}
        for index in chance.sample(range(count), DELAY_JOBS):
            genome = f"{self._mark}_{count}_waiting_{index}_"
            done[genome] = time.monotonic()
            self._finish_jobs(genome)
            time.sleep(chance.uniform(0.5, 3))
        wait_until(lambda: done.keys() <= self.reports.finished.keys(), 120, "reports on all jobs")
        delays = sorted(self.reports.finished[genome] - done_at for genome, done_at in done.items())
        step = f"job DONE to report in the queue, {count:,} jobs waiting"
        yield Measurement(f"{step}: median", statistics.median(delays), "s", at_most=6)
        yield Measurement(f"{step}: longest of {DELAY_JOBS}", delays[-1], "s")

    def _measure_batch(self, count: int) -> Iterator[Measurement]:
        self.environment.wait_until_idle()
        cpu_before, started = self.environment.measure_cpu(), time.monotonic()
        conf = {"events": self._events(f"{count} waiting", count)}
        self.runs.trigger(conf, f"batch_{self._mark}").raise_for_status()
        wait_until(lambda: self._count_ready_jobs() == count, 300, f"{count} READY jobs")
        seconds = time.monotonic() - started
        yield Measurement(f"batch of {count:,}: from the trigger to all READY", seconds, "s")
        wait_until(lambda: self._load_batch_state("dump_peptide.wait") == "deferred", 60, "wait")
        cpu = 1000 * (self.environment.measure_cpu() - cpu_before) / count
        yield Measurement(f"batch of {count:,}: CPU of all of Airflow", cpu, "ms/event")

    def _load_batch_state(self, task_id: str) -> str | None:
        return self.runs.load_task_states(f"batch_{self._mark}")[task_id]

    def _events(self, name: str, count: int) -> list[dict[str, Any]]:
        """Return events of one process, each with a genome of its own; 10,000 events have less than 1 MiB."""
        genomes = [f"{self._prefix(name)}{index}_" for index in range(count)]
        return [{"type": "new_genebuild", "genome": genome} for genome in genomes]

    def _prefix(self, name: str) -> str:
        return f"{self._mark}_{name.replace(' ', '_')}_"

    def _post_each(self, events: list[dict[str, Any]], threads: int) -> None:
        """Submit each event in a request of its own."""

        def post(part: list[dict[str, Any]]) -> None:
            session, url = self.environment.open_session(), self._url()
            for event in part:
                session.post(url, json=event, timeout=60).raise_for_status()

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(post, (events[start::threads] for start in range(threads))))

    def _post_array(self, events: list[dict[str, Any]]) -> None:
        """Submit all events in one request."""
        session = self.environment.open_session()
        session.post(self._url(), json=events, timeout=60).raise_for_status()

    def _url(self) -> str:
        return f"{self.environment.airflow.url}/event-hooks/jobs"

    def _finish_all(self, name: str, count: int) -> None:
        """
        Set READY jobs to DONE twice a second, until ``count`` of the events have their reports.

        :raises TimeoutError: after ``MAX_SECONDS``.
        """
        prefix = self._prefix(name)

        def is_reported() -> bool:
            self._finish_jobs(prefix)
            time.sleep(0.5)
            return sum(genome.startswith(prefix) for genome in list(self.reports.finished)) == count

        wait_until(is_reported, MAX_SECONDS, "reports on all jobs")

    def _finish_jobs(self, genome: str) -> None:
        """Set the READY jobs of genomes that contain the text to DONE, as a worker does."""
        pattern = genome.replace("_", r"\_")
        with self.environment.hive.connect() as connection:
            connection.exec_driver_sql(
                "UPDATE job LEFT JOIN analysis_data"
                " ON input_id = CONCAT('_extended_data_id ', analysis_data_id)"
                " SET job.status = 'DONE', when_completed = CURRENT_TIMESTAMP"
                f" WHERE job.status = 'READY' AND COALESCE(data, input_id) LIKE '%%{pattern}%%'"
            )

    def _count_ready_jobs(self) -> int:
        query = "SELECT COUNT(*) FROM job WHERE status = 'READY'"
        return int(self.environment.fetch_rows(self.environment.hive, query)[0][0])


def measure() -> Iterator[Measurement]:
    """Yield each measurement as soon as it is complete."""
    logging.getLogger("pika").setLevel(logging.WARNING)
    with bench_environment() as environment:
        yield from Bench(environment).run()
