"""Rounds: runs are under way, something is killed, all is counted."""

from __future__ import annotations

import random
import time
from uuid import uuid4

from tests.faults.killing import TARGETS
from tests.faults.load import Load
from tests.faults.record import Round
from tests.support.system import System

LIMIT = 120.0
"""Seconds in which every run must be over."""


class Rounds:
    """
    Kill at random moments, and count.

    :param seed: decides the moments, and what is killed where there is a choice.
    """

    def __init__(self, system: System, seed: int) -> None:
        self.system = system
        self.seed = seed
        self.span = 0.0
        self.done: list[Round] = []

    def measure(self) -> None:
        """Find how long the runs take undisturbed, which is when kills shall fall; the first ones warm up."""
        for single_fails in (True, False):
            started = time.monotonic()
            load = self._load(single_fails=single_fails)
            _until_over(load, started + LIMIT)
            self.span = time.monotonic() - started
            faults = load.faults()
            assert faults == [], faults

    def make(self, name: str, number: int) -> Load:
        """Make one round, and give its load; a kill that would come too late is drawn anew."""
        chance = random.Random(f"{self.seed}/{name}/{number}")
        target = TARGETS[name](self.system, chance)
        killed = ""
        while not killed:
            moment = time.monotonic() + chance.uniform(0, self.span)
            load = self._load(single_fails=chance.random() < 0.5)
            if not _until_over(load, moment):
                steps, killed_at = load.steps(), time.monotonic()
                killed = target.kill(load.is_finished)
        target.restore()
        _until_over(load, killed_at + LIMIT)
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
                faults=load.faults(),
            )
        )
        print(f"{name} {number}: {killed} at {dict(steps)}, over after {seconds:.1f} s", flush=True)
        target.wait_restored()
        return load

    def _load(self, *, single_fails: bool) -> Load:
        return Load(self.system, f"genome_{uuid4().hex[:12]}", single_fails=single_fails)


def _until_over(load: Load, limit: float) -> bool:
    """Wait for the end of all runs, and tell whether it came; ``load.faults`` tells as well."""
    while not (is_finished := load.is_finished()) and time.monotonic() < limit:
        time.sleep(0.1)
    return is_finished
