"""
Once only, proven: whatever is killed at whatever moment, each event and process has one job and one verdict.

``pytest tests/faults --rounds 20`` is what `make faults` does; one round each is part of `make test`.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.faults.killing import TARGETS
from tests.faults.rounds import Rounds
from tests.support.running_airflow import System


@pytest.mark.parametrize("target", TARGETS)
def test_a_kill_at_a_random_moment_changes_nothing(
    rounds: Rounds, target: str, request: pytest.FixtureRequest
) -> None:
    loads = [rounds.make(target, number) for number in range(request.config.getoption("--rounds"))]
    found = [(one.number, fault) for one in rounds.done if one.target == target for fault in one.faults]
    found += [(number, f"later: {fault}") for number, load in enumerate(loads) for fault in load.faults()]
    assert found == [], f"--seed {rounds.seed}"
    assert check_ledger(rounds.system) == (0, "0 faults"), f"--seed {rounds.seed}"


def check_ledger(system: System) -> tuple[int, str]:
    """Run the command that compares ledger, hives and reports; give its status and the end of its output."""
    command = [sys.executable, "-m", "event_hooks.consistency", "--hours", "2"]
    said = subprocess.run(
        command, env=system.airflow.environment, capture_output=True, text=True, timeout=300, check=False
    )
    print(said.stdout, said.stderr)
    return said.returncode, ", ".join(said.stdout.strip().split(", ")[-1:])
