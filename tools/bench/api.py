"""
What ``POST /event-hooks/jobs`` costs.

One Airflow with one process of the API server, and a hive that nobody works in, so
that what is READY stays so. Everything runs on this one machine, the runs that follow included.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

from tools.bench.room import ANALYSES, Measured, Place, place, until

AT_A_TIME = 8
FAILING = 10  # each tenth job of the burst fails
OUTCOME_SECONDS = 600


class Bench:
    """A warm API server and what it writes to."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.hive, self.ledger = place.hive, place.ledger
        self._mark = uuid4().hex[:8]

    def run(self) -> Iterator[Measured]:
        """Yield each figure, once it is measured."""
        self.place.until_quiet()  # its services have just started
        self._post_each(self._events("warm up", 50), AT_A_TIME, cold=True)
        self.place.until_quiet()
        before = self.place.cpu("api-server")
        seconds = self._post_each(self._events("alone", 200), 1)
        spent = self.place.cpu("api-server") - before
        median = 1000 * statistics.median(seconds)
        yield Measured("one after another: median", median, "ms", "< 30", median < 30)
        yield Measured("one after another: 95 %", 1000 * statistics.quantiles(seconds, n=20)[18], "ms")
        yield Measured("one after another: CPU of the API server", 1000 * spent / 200, "ms/event")
        self.place.until_quiet()
        events = self._events("eight", 200)
        began = time.monotonic()
        self._post_each(events, AT_A_TIME)
        rate = 200 / (time.monotonic() - began)
        yield Measured(f"200 events, {AT_A_TIME} at a time", rate, "events/s", ">= 120", rate >= 120)
        yield self._none_lost(events)
        self.place.until_quiet()
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
        until(lambda: not self._open(), OUTCOME_SECONDS, "all outcomes")
        yield Measured("jobs over to all 2,000 outcomes in the ledger", time.monotonic() - began, "s")
        wrong = self._wrong_outcomes()
        yield Measured("outcomes that are wrong", wrong, "", "0", wrong == 0)

    def _events(self, name: str, count: int) -> list[dict[str, Any]]:
        mark = f"{self._mark} {name}"
        return [
            {"type": "new_assembly", "genome": f"{name} {n}", "event_id": f"{mark} {n}"} for n in range(count)
        ]

    def _post_each(self, events: list[dict[str, Any]], at_a_time: int, *, cold: bool = False) -> list[float]:
        """Post them, each answer a 201 with all job ids unless all is cold, and give the seconds of each."""

        def post(some: list[dict[str, Any]]) -> list[float]:
            session, seconds = self.place.session(), []
            for event in some:
                began = time.perf_counter()
                answer = session.post(f"{self.place.airflow.url}/event-hooks/jobs", json=event, timeout=60)
                seconds.append(time.perf_counter() - began)
                answer.raise_for_status()
                has_jobs = answer.status_code == 201 and all(one["job"] for one in answer.json()["processes"])
                if not (cold or has_jobs):
                    raise RuntimeError(f"{answer.status_code}: {answer.text}")
            return seconds

        with ThreadPoolExecutor(at_a_time) as pool:
            parts = pool.map(post, (events[n::at_a_time] for n in range(at_a_time)))
            return [one for part in parts for one in part]

    def _none_lost(self, events: list[dict[str, Any]]) -> Measured:
        """Count in the hive: each event has one READY job per analysis."""
        names = [event["event_id"] for event in events]
        rows = self.place.ask(
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
        return int(self.place.ask(self.ledger, statement)[0][0])

    def _open(self) -> int:
        statement = "SELECT COUNT(*) FROM event_process WHERE state IN ('planned', 'submitted')"
        return int(self.place.ask(self.ledger, statement)[0][0])

    def _runs(self) -> int:
        return int(self.place.ask(self.ledger, "SELECT COUNT(DISTINCT run_id) FROM event")[0][0])


def measure() -> Iterator[Measured]:
    """Yield each figure, once it is measured."""
    logging.getLogger("pika").setLevel(logging.WARNING)
    with place() as one:
        yield from Bench(one).run()
