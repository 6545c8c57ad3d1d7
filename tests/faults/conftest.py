"""Rounds of kills on the running Airflow."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faults import record
from tests.faults.rounds import LIMIT, Rounds
from tests.support.system import System


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """What all chance comes from; printed, so that it can be given again."""
    given = request.config.getoption("--seed")
    seed = random.SystemRandom().randrange(10**6) if given is None else int(given)
    print(f"--seed {seed}")
    return seed


@pytest.fixture(scope="module")
def rounds(system: System, seed: int, request: pytest.FixtureRequest) -> Iterator[Rounds]:
    """The rounds, measured; the option --record writes them to a file at the end."""
    started = datetime.now(UTC)
    rounds = Rounds(system, seed)
    rounds.measure()
    yield rounds
    file: Path | None = request.config.getoption("--record")
    if file and rounds.done:
        record.write(file, rounds.done, seed=seed, span=rounds.span, limit=LIMIT, started=started)
