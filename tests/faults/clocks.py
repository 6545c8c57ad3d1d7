"""
Processes of Airflow whose clock differs from that of the machine, by libfaketime.

Workers and triggerers may differ by a minute. Between the scheduler and the API server, Airflow 3.3.2 itself
tolerates less, and no task ran with a difference of a minute (``Invalid auth token``):

- The scheduler signs a token for each task, and the API server checks it, with a leeway of 10 s
  (``[api_auth] jwt_leeway``). If the API server's clock is slower by more, the token is not yet valid
  (``ImmatureSignatureError``). If it is faster, the token has expired (``ExpiredSignatureError``): it is
  valid for ``[scheduler] task_queued_timeout``, 15 s in these tests.
- The API server stores the heartbeats of tasks. If its clock is slower by more than
  ``task_instance_heartbeat_timeout`` (6 s in these tests), the scheduler ends all running tasks.

So the API server's clock is only faster, and the scheduler's only slower, by some seconds.
"""

from __future__ import annotations

import random
from pathlib import Path

from tests.support.system import System

SECONDS = 60
SECONDS_OF_SERVERS = 8
STOP_SECONDS = 5.0


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
        before = self._shifts.get(name, 0)
        seconds = self._chance.choice([shift for shift in possible[name] if shift != before])
        self.restart(name, seconds)
        return f"{name} runs with a clock that is shifted by {seconds} s"

    def restart(self, name: str, seconds: int) -> None:
        """Restart a process with a clock that is shifted."""
        variables = {
            "LD_PRELOAD": str(find_library()),
            "FAKETIME": f"{seconds:+d}",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # With shifted times of files, Python would compile all of its modules again.
            "NO_FAKE_STAT": "1",
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
    "api-server": (0, SECONDS_OF_SERVERS),
    "scheduler": (-SECONDS_OF_SERVERS, 0),
}
