"""
Each event and process has one right outcome, although lookups, hives and clocks change while events flow.

`make faults` makes random changes for half a minute per round (10 minutes with ``--rounds 20``), `make test`
makes a few of each kind.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from tests.faults import record
from tests.faults.changes import Changes
from tests.faults.event_flow import EventFlow
from tests.faults.verdict import Verdict
from tests.support.system import System

SHORT = {
    "process added": 1,
    "process removed": 1,
    "process moved": 1,
    "hive created again": 1,
    "wait cleared": 3,
    "clock shifted": 2,
}
"""The changes of the short form."""

SECONDS_PER_ROUND = 30
PAUSE = (1.0, 3.0)
"""Bounds of the seconds between two changes, and how long events flow after the last change."""

EVENT_PAUSE = (1.0, 4.0)
"""Bounds of the seconds between two requests with events."""

SHORT_SEED = 26
"""The hive is created again early: a job that has no row is MISSING only after a minute."""

RECOVERY_SECONDS = 240.0


@pytest.fixture
def change_seed(request: pytest.FixtureRequest) -> int:
    """Seed of the random changes; that of the short form is constant."""
    is_short = not request.config.getoption("--rounds") and request.config.getoption("--seed") is None
    return SHORT_SEED if is_short else int(request.getfixturevalue("seed"))


@pytest.fixture
def changes(system: System, genome: str, change_seed: int) -> Iterator[Changes]:
    """The changes; everything is restored at the end."""
    changes = Changes(system, genome, random.Random(f"{change_seed}/changes"))
    changes.start()
    yield changes
    changes.close()
    system.parse_dag_files()


def test_each_event_has_one_right_outcome_during_random_changes(
    system: System, genome: str, changes: Changes, change_seed: int, request: pytest.FixtureRequest
) -> None:
    rounds = request.config.getoption("--rounds")
    flow = EventFlow(system, genome, random.Random(f"{change_seed}/events"), EVENT_PAUSE)
    flow.start()
    started = time.monotonic()
    for kind in choose_kinds(changes, rounds):
        time.sleep(changes.chance.uniform(*PAUSE))
        changes.make(kind)
    time.sleep(PAUSE[1])
    flow.stop()
    seconds = time.monotonic() - started
    changes.clocks.restore()
    verdict = Verdict(system, genome, flow, changes)
    unfinished = verdict.wait_finished(RECOVERY_SECONDS)
    faults = [*flow.errors, *unfinished, *verdict.find_faults()]
    print(f"{len(flow.events)} events, {dict(changes.counts)}, {verdict.count_states()}")
    print("\n".join(faults))
    if file := request.config.getoption("--record"):
        record.write_changes(
            file,
            changes.counts,
            verdict.count_states(),
            faults,
            events=len(flow.events),
            seconds=seconds,
            seed=change_seed,
        )
    assert faults == [], f"--seed {change_seed}"


def choose_kinds(changes: Changes, rounds: int) -> Iterator[str]:
    """Yield the kinds of the changes in a random order, for a fixed number or for some time."""
    if not rounds:
        kinds = [kind for kind, count in SHORT.items() for _ in range(count)]
        yield from changes.chance.sample(kinds, len(kinds))
        return
    deadline = time.monotonic() + rounds * SECONDS_PER_ROUND
    while time.monotonic() < deadline:
        yield changes.chance.choice(list(changes.kinds))
