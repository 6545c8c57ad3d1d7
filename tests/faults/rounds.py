"""Rounds: two runs are started, a target is killed, and jobs, runs and reports are counted."""

from __future__ import annotations

import random
import time
from uuid import uuid4

from tests.faults.killing import TARGETS
from tests.faults.load import Load
from tests.faults.record import Round
from tests.support.system import System

WAIT_SECONDS = 120.0
"""Timeout of every run."""


class Rounds:
    """
    Kill targets at random moments, and count.

    :param seed: of the random moments, and of other random choices.
    :ivar run_seconds: duration of the runs without a kill.
    :ivar done: the finished rounds.
    """

    def __init__(self, system: System, seed: int) -> None:
        self.system = system
        self.seed = seed
        self.run_seconds = 0.0
        self.done: list[Round] = []

    def measure_duration(self) -> None:
        """Measure the duration of the runs without a kill, after a warm-up; kills fall in this time."""
        for single_fails in (True, False):
            started = time.monotonic()
            load = self._start_load(single_fails=single_fails)
            _wait_finished(load, started + WAIT_SECONDS)
            self.run_seconds = time.monotonic() - started
            faults = load.find_faults()
            assert faults == [], faults

    def run(self, name: str, number: int) -> Load:
        """Run one round, and return its load; if the runs finish before the kill, the round is repeated."""
        chance = random.Random(f"{self.seed}/{name}/{number}")
        target = TARGETS[name](self.system, chance)
        killed = ""
        while not killed:
            moment = time.monotonic() + chance.uniform(0, self.run_seconds)
            load = self._start_load(single_fails=chance.random() < 0.5)
            if not _wait_finished(load, moment):
                steps, killed_at = load.count_steps(), time.monotonic()
                killed = target.kill(load.is_finished)
        target.restore()
        _wait_finished(load, killed_at + WAIT_SECONDS)
        seconds = time.monotonic() - killed_at
        self.done.append(
            Round(
                target=name,
                number=number,
                killed=killed,
                steps=steps,
                seconds=seconds,
                runs=len(load.runs),
                events=sum(len(run.events) for run in load.runs),
                jobs=len(load.jobs()),
                message_ids=[report["message_id"] for report in load.reports()],
                faults=load.find_faults(),
            )
        )
        print(f"{name} {number}: {killed} at {dict(steps)}, finished after {seconds:.1f} s", flush=True)
        target.wait_restored()
        return load

    def _start_load(self, *, single_fails: bool) -> Load:
        return Load(self.system, f"genome_{uuid4().hex[:12]}", single_fails=single_fails)


def _wait_finished(load: Load, deadline: float) -> bool:
    """Wait until all runs have finished or the deadline is reached; return whether they have finished."""
    while not (is_finished := load.is_finished()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return is_finished
