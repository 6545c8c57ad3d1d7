"""
One side of a comparison: start an Airflow of this checkout, and measure it on command.

Commands are lines on standard input: ``start PARTS``, ``measure``, ``pause`` and ``resume``. The answer to
each is a line of JSON, ``{step and unit: value}``.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from tools.bench import api, runs
from tools.bench.environment import Environment, bench_environment

if TYPE_CHECKING:
    from tools.bench.measurement import Measurement


class Parts:
    """The selected parts of the benchmarks, on a warm Airflow."""

    def __init__(self, environment: Environment, names: str) -> None:
        self._names = names.split()
        self._api, self._runs = api.Bench(environment), runs.Bench(environment)
        self._api.warm_up()
        self._api.finish()
        if "single" in self._names:
            self._runs.warm_up()

    def measure(self) -> Iterator[Measurement]:
        """Yield each measurement."""
        if "api" in self._names:
            yield from self._api.measure_latency(50)
            yield from self._api.measure_rate(200, 8)
            yield from self._api.measure_rate(500, 32)
            self._api.finish()
        if "single" in self._names:
            idle = yield from self._runs.measure_idle(20)
            yield from self._runs.measure_single_events(4, idle)


def main() -> None:
    """Answer commands until standard input ends."""
    logging.getLogger("pika").setLevel(logging.WARNING)
    command, _, names = sys.stdin.readline().strip().partition(" ")
    if command != "start":
        raise SystemExit(f"expected start, not {command!r}")
    with bench_environment() as environment:
        parts = Parts(environment, names)
        _answer()
        try:
            for line in sys.stdin:
                match line.strip():
                    case "measure":
                        _answer(*parts.measure())
                    case "pause":
                        _suspend(environment, is_paused=True)
                        _answer()
                    case "resume":
                        _suspend(environment, is_paused=False)
                        environment.wait_until_idle()  # work that was due during the pause
                        _answer()
        finally:
            _suspend(environment, is_paused=False)  # a stopped process does not end by SIGTERM


def _answer(*measurements: Measurement) -> None:
    values = {
        f"{measurement.step}, {measurement.unit}" if measurement.unit else measurement.step: measurement.value
        for measurement in measurements
    }
    print(json.dumps(values), flush=True)


def _suspend(environment: Environment, *, is_paused: bool) -> None:
    """Stop or continue all processes of the Airflow; its children are found while their parent is stopped."""
    for leader in environment.leaders():
        for process in [leader, *leader.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.suspend() if is_paused else process.resume()


if __name__ == "__main__":
    main()
