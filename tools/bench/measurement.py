"""Measured values, their limits, and the speed of the machine, to which the limits of times are relative."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import psutil

CALIBRATION_ADDITIONS = 20_000_000
REFERENCE_SECONDS = 0.8
"""
Duration of :func:`measure_calibration` on the machine for which the limits are meant.

The same loop at the top level of a module, without local variables, takes 2 s there.
"""

SERVERS = "PostgreSQL, MariaDB, RabbitMQ on it"

TIME_UNITS = ("s", "ms", "ms/event", "% of a core")
RATE_UNITS = ("events/s",)


@dataclass(frozen=True)
class Measurement:
    """
    One measured value.

    :param value: infinite if what was measured did not end within its timeout.
    :param at_most: highest permitted value; ``None`` for no limit, ``at_least`` likewise. Limits of times
        and rates are those of a machine with a slowness of 1.
    """

    step: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    def is_within_limit(self, slowness: float = 1.0) -> bool:
        """
        Return whether the value is within its limit.

        :param slowness: of the machine, relative to the reference.
        """
        at_most, at_least = self._scale(self.at_most, slowness), self._scale(self.at_least, slowness)
        return (at_most is None or self.value <= at_most) and (at_least is None or self.value >= at_least)

    def format_row(self, slowness: float = 1.0) -> str:
        """Return the row of a Markdown table; a value that exceeds its limit is bold."""
        text = f"{_format_number(self.value)} {self.unit}".strip() if math.isfinite(self.value) else "timeout"
        value = text if self.is_within_limit(slowness) else f"**{text}**"
        return f"| {self.step} | {value} | {self._format_limit(slowness)} |"

    def _format_limit(self, slowness: float) -> str:
        at_most, at_least = self._scale(self.at_most, slowness), self._scale(self.at_least, slowness)
        if at_most == 0:
            return "0"
        if at_most is not None:
            return f"<= {_format_number(at_most)}"
        return "" if at_least is None else f">= {_format_number(at_least)}"

    def _scale(self, limit: float | None, slowness: float) -> float | None:
        """Return a limit for this machine; a limit of a count applies to each machine."""
        if limit is None:
            return None
        if self.unit in TIME_UNITS:
            return limit * slowness
        return limit / slowness if self.unit in RATE_UNITS else limit


def _format_number(value: float) -> str:
    digits = 0 if float(value).is_integer() else 2 if value < 10 else 1
    return f"{value:,.{digits}f}"


def measure_calibration() -> float:
    """Return the seconds of :data:`CALIBRATION_ADDITIONS` additions in Python, the best of three."""
    return min(_time_additions() for _ in range(3))


def _time_additions() -> float:
    started, total = time.perf_counter(), 0
    for number in range(CALIBRATION_ADDITIONS):
        total += number
    return time.perf_counter() - started


def describe_speed(seconds: float) -> str:
    """Return the result of :func:`measure_calibration` for a table of measurements."""
    return f"{CALIBRATION_ADDITIONS / 1e6:.0f} million additions in Python: {seconds:.2f} s"


def format_table(measurements: Sequence[Measurement], slowness: float = 1.0) -> str:
    """Return a Markdown table; a value that exceeds its limit is bold."""
    rows = [measurement.format_row(slowness) for measurement in measurements]
    return "\n".join(["| Step | Measured | Limit |", "| --- | ---: | ---: |", *rows])


def describe_machine(servers: str) -> str:
    """Return the current time, the hardware, and the versions of the system."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {os.cpu_count()} cores, {memory:.0f} GiB,"
        f" {platform.platform()}, Python {platform.python_version()}, {servers}"
    )
