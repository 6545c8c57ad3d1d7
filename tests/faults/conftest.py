"""Rounds of kills on the running Airflow."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faults import record
from tests.faults.rounds import WAIT_SECONDS, Rounds
from tests.support.system import System


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """Seed of all random choices; it is printed, so that a run can be repeated."""
    option = request.config.getoption("--seed")
    seed = random.SystemRandom().randrange(10**6) if option is None else int(option)
    print(f"--seed {seed}")
    return seed


@pytest.fixture(scope="module")
def rounds(system: System, seed: int, request: pytest.FixtureRequest) -> Iterator[Rounds]:
    """The rounds, after the measurement; the option --record writes them to a file at the end."""
    started = datetime.now(UTC)
    rounds = Rounds(system, seed)
    rounds.measure_duration()
    yield rounds
    file: Path | None = request.config.getoption("--record")
    if file and rounds.done:
        record.write(
            file,
            rounds.done,
            seed=seed,
            run_seconds=rounds.run_seconds,
            wait_seconds=WAIT_SECONDS,
            started=started,
        )
