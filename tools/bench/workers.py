"""Benchmark of ``POST /event-hooks/jobs`` with one process of the API server and with two (``workers``)."""

from __future__ import annotations

import logging
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from tools.bench import api
from tools.bench.environment import bench_environment

if TYPE_CHECKING:
    from tools.bench.measurement import Measurement

SETTING = "AIRFLOW__API__WORKERS"
WORKERS = (1, 2)
RATES = ((8, 400), (32, 800), (64, 800))
"""Senders, and events that they send."""

ROUNDS = 3
"""Times that each number of processes is measured, alternating."""


def measure() -> Iterator[Measurement]:
    """Yield the median of each rate and reply time, and the most runs and lost or duplicate jobs."""
    logging.getLogger("pika").setLevel(logging.WARNING)
    results: dict[str, list[Measurement]] = defaultdict(list)
    with bench_environment() as environment:
        bench = api.Bench(environment)
        for _ in range(ROUNDS):
            for workers in WORKERS:
                environment.airflow.start_service("api-server", {SETTING: str(workers)})
                environment.airflow.wait_ready()
                bench.warm_up()
                for threads, count in RATES:
                    bench.finish()
                    for measurement in bench.measure_rate(count, threads):
                        results[f"{workers} API workers, {measurement.step}"].append(measurement)
    for step, measurements in results.items():
        values = [measurement.value for measurement in measurements]
        combined = max(values) if measurements[0].unit in ("", "jobs") else statistics.median(values)
        yield replace(measurements[0], step=step, value=combined)
