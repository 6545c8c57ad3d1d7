"""
Events on their whole way, from the request to the report.

One Airflow with the default settings on this one machine. Its hive has no workers: what is READY stays so
until this ends it, so that all costs are ours.
"""

from __future__ import annotations

import json
import logging
import os
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pika

from tools.bench.room import Measured, Place, place, until
from tools.runs import Runs

AT_A_TIME = 8
SETTLED = 100
"""Seconds after which a wait is looked at as seldom as it ever is: ten times ``max_poll_interval``."""

SPAN = 120
"""Seconds of a measurement of those who wait."""

DELAYS = 60
"""Jobs that are ended one by one."""


class Reports(threading.Thread):
    """Hears all reports, and notes when the end of each event was told."""

    def __init__(self, queue: str) -> None:
        super().__init__(daemon=True)
        self.queue = queue
        self.count = 0
        self.ended: dict[str, float] = {}
        self.steps: Counter[str] = Counter()

    def run(self) -> None:
        """Listen until the process ends."""
        connection = pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"]))
        for _, _, body in connection.channel().consume(self.queue, auto_ack=True):
            report = json.loads(body)
            self.count += 1
            step = report["params"]["event_hooks"]["step"]
            self.steps[step] += 1
            if step == "process_finished":
                self.ended[report["resource"]] = time.monotonic()


class Bench:
    """A warm system, and who hears its reports."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.runs = Runs(place.airflow.url, place.airflow.token)
        self.reports = Reports(place.queue)
        self._mark = uuid4().hex[:8]

    def run(self) -> Iterator[Measured]:
        """Yield each figure, once it is measured."""
        self.reports.start()
        self.place.until_quiet()
        self._post(self._events("warm up", 20), 1)
        self._end_all("warm up", 20)
        self.place.until_quiet()
        idle = self.place.cpu()
        time.sleep(30)
        idle = (self.place.cpu() - idle) / 30
        yield Measured("nothing to do: CPU of all of Airflow", 100 * idle, "% of a core")
        yield from self._alone(idle)
        yield from self._eight_at_a_time(idle)
        yield from self._waiting(1000)
        yield from self._delays(1000)
        self._end_all("1000 waiting", 1000)
        yield from self._batch(10_000)
        yield from self._waiting_now(10_000)
        began = time.monotonic()
        self._end_all("10000 waiting", 10_000)
        yield Measured("10,000 jobs over to 10,000 reports", time.monotonic() - began, "s")
        yield Measured("all services, without what they share", self.place.memory(), "MiB")

    def _alone(self, idle: float) -> Iterator[Measured]:
        """Send events so slowly that each has a run of its own."""
        count, before, began = 10, self.place.cpu(), time.monotonic()
        for n in range(count):
            event = {"type": "new_genebuild", "genome": f"{self._mark}_alone_{n}_"}
            self._post([event], 1)
            time.sleep(1)
            self._end_all(f"alone_{n}", 1)
        self.place.until_quiet()
        cpu = self.place.cpu() - before - idle * (time.monotonic() - began)
        yield Measured("an event alone in its run: CPU of all of Airflow", 1000 * cpu / count, "ms/event")

    def _eight_at_a_time(self, idle: float) -> Iterator[Measured]:
        count, name = 200, "eight"
        before = self.place.cpu(), self.place.statements(), self.reports.count
        began = time.monotonic()
        ender = threading.Thread(target=self._end_all, args=[name, count])
        ender.start()
        self._post(self._events(name, count), AT_A_TIME)
        ender.join()
        seconds = time.monotonic() - began
        self.place.until_quiet()  # until the runs are over as well
        over = time.monotonic() - began
        cpu = self.place.cpu() - before[0] - idle * over
        yield Measured(f"{count} events, {AT_A_TIME} at a time, to the last report of an end", seconds, "s")
        yield Measured("CPU of all of Airflow", 1000 * cpu / count, "ms/event")
        yield Measured("SQL statements to the hive", (self.place.statements() - before[1]) / count, "/event")
        yield Measured("messages to RabbitMQ", (self.reports.count - before[2]) / count, "/event")

    def _waiting(self, count: int) -> Iterator[Measured]:
        events = self._events(f"{count} waiting", count)
        for start in range(0, count, 500):
            self._post_array(events[start : start + 500])
        yield from self._waiting_now(count)

    def _waiting_now(self, count: int) -> Iterator[Measured]:
        time.sleep(SETTLED)
        before = self.place.cpu("triggerer"), self.place.statements()
        time.sleep(SPAN)
        cpu = 100 * (self.place.cpu("triggerer") - before[0]) / SPAN
        statements = 60 * (self.place.statements() - before[1]) / SPAN
        name = f"{count:,} jobs waiting"
        yield Measured(f"{name}: CPU of the triggerer", cpu, "% of a core", "< 10", cpu < 10)
        yield Measured(f"{name}: SQL statements to the hive", statements, "/min", "< 100", statements < 100)

    def _delays(self, count: int) -> Iterator[Measured]:
        """End some jobs one by one, while the others wait on."""
        chance, done = random.Random(1), {}
        for n in chance.sample(range(count), DELAYS):
            genome = f"{self._mark}_{count}_waiting_{n}_"
            done[genome] = time.monotonic()
            self._end(genome)
            time.sleep(chance.uniform(0.5, 3))
        until(lambda: done.keys() <= self.reports.ended.keys(), 120, "reports of all")
        delays = sorted(self.reports.ended[genome] - at for genome, at in done.items())
        median = statistics.median(delays)
        step = f"job DONE to report in the queue, {count:,} jobs waiting"
        yield Measured(f"{step}: median", median, "s", "< 6", median < 6)
        yield Measured(f"{step}: longest of {DELAYS}", delays[-1], "s")

    def _batch(self, count: int) -> Iterator[Measured]:
        self.place.until_quiet()
        before, began = self.place.cpu(), time.monotonic()
        conf = {"events": self._events(f"{count} waiting", count)}
        answer = self.runs.trigger(conf, f"batch_{self._mark}")
        answer.raise_for_status()
        until(lambda: self._ready() == count, 300, f"{count} READY jobs")
        seconds = time.monotonic() - began
        yield Measured(f"batch of {count:,}: from the trigger to all READY", seconds, "s")
        until(lambda: self._state("dump_peptide.wait") == "deferred", 60, "wait")
        cpu = 1000 * (self.place.cpu() - before) / count
        yield Measured(f"batch of {count:,}: CPU of all of Airflow", cpu, "ms/event")

    def _state(self, task_id: str) -> str | None:
        return self.runs.task_states(f"batch_{self._mark}")[task_id]

    def _events(self, name: str, count: int) -> list[dict[str, Any]]:
        """Make events of one process each, of genomes of their own."""
        mark = f"{self._mark}_{name.replace(' ', '_')}"
        genomes = [f"{mark}_{n}_" for n in range(count)]
        return [{"type": "new_genebuild", "genome": genome, "event_id": genome} for genome in genomes]

    def _post(self, events: list[dict[str, Any]], at_a_time: int) -> None:
        def post(some: list[dict[str, Any]]) -> None:
            session = self.place.session()
            for event in some:
                answer = session.post(f"{self.place.airflow.url}/event-hooks/jobs", json=event, timeout=60)
                answer.raise_for_status()

        with ThreadPoolExecutor(at_a_time) as pool:
            list(pool.map(post, (events[n::at_a_time] for n in range(at_a_time))))

    def _post_array(self, events: list[dict[str, Any]]) -> None:
        url = f"{self.place.airflow.url}/event-hooks/jobs"
        self.place.session().post(url, json=events, timeout=60).raise_for_status()

    def _end_all(self, name: str, count: int) -> None:
        """Let what is READY be DONE, twice a second, until so many ends were told."""
        mark = f"{self._mark}_{name.replace(' ', '_')}_"

        def all_told() -> bool:
            self._end(mark)
            time.sleep(0.5)
            return sum(genome.startswith(mark) for genome in list(self.reports.ended)) == count

        until(all_told, 900, "reports of all")

    def _end(self, genome: str) -> None:
        """Let the jobs of genomes whose names hold this be DONE, as a worker would leave them."""
        like = genome.replace("_", r"\_")
        with self.place.hive.connect() as connection:
            connection.exec_driver_sql(
                "UPDATE job LEFT JOIN analysis_data"
                " ON input_id = CONCAT('_extended_data_id ', analysis_data_id) SET job.status = 'DONE'"
                f" WHERE job.status = 'READY' AND COALESCE(data, input_id) LIKE '%%{like}%%'"
            )

    def _ready(self) -> int:
        return int(self.place.ask(self.place.hive, "SELECT COUNT(*) FROM job WHERE status = 'READY'")[0][0])


def measure() -> Iterator[Measured]:
    """Yield each figure, once it is measured."""
    logging.getLogger("pika").setLevel(logging.WARNING)
    with place() as one:
        yield from Bench(one).run()
