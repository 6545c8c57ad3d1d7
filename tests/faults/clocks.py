"""Processes of Airflow whose clock differs from that of the machine."""

from __future__ import annotations

import random
from pathlib import Path

from tests.support.system import System

SECONDS = 60
STOP_SECONDS = 15.0


def find_library() -> Path:
    """Return libfaketime of the Debian package ``faketime``, for programs with threads."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


class Clocks:
    """
    The clocks of Airflow's processes.

    The children of a process have its clock. Its monotonic clock is not shifted, as on a machine whose time
    is wrong.
    """

    def __init__(self, system: System, chance: random.Random) -> None:
        self._airflow = system.airflow
        self._chance = chance
        self._shifts: dict[str, int] = {}

    def shift(self) -> str:
        """Shift the clock of a random process, or set a shifted one back."""
        possible = {name: shifts for name, shifts in SHIFTS.items() if name in self._airflow.services}
        name = self._chance.choice(sorted(possible))
        seconds = self._chance.choice([shift for shift in possible[name] if shift != self._shifts.get(name)])
        self.restart(name, seconds)
        return f"{name} runs with a clock that is shifted by {seconds} s"

    def restart(self, name: str, seconds: int) -> None:
        """Restart a process with a clock that is shifted."""
        variables = {
            "LD_PRELOAD": str(find_library()),
            "FAKETIME": f"{seconds:+d}",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self._airflow.process_folders[name].stop(STOP_SECONDS)
        self._airflow.start_service(name, variables if seconds else None)
        self._shifts[name] = seconds

    def restore(self) -> None:
        """Restart the processes whose clocks are shifted, without a shift."""
        for name in [name for name, seconds in self._shifts.items() if seconds]:
            self.restart(name, 0)


SHIFTS = {
    "worker-1": (-SECONDS, 0, SECONDS),
    "worker-2": (-SECONDS, 0, SECONDS),
    "triggerer": (-SECONDS, 0, SECONDS),
    "triggerer-2": (-SECONDS, 0, SECONDS),
    "api-server": (0, SECONDS),
    "scheduler": (-SECONDS, 0),
}
