"""
Each event and process has one job and one outcome, although parts are killed at random moments.

`make faults` kills each target at 20 random moments and counts (``--rounds 20``), with the LocalExecutor. The
short form in `make test` is ``test_kills_during_one_load.py``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

import pytest

from tests.faults.killing import TARGETS
from tests.faults.rounds import Rounds
from tests.support.system import System


@pytest.mark.rounds
@pytest.mark.parametrize("target", TARGETS)
def test_a_kill_at_a_random_moment_changes_no_outcome(
    rounds: Rounds, target: str, request: pytest.FixtureRequest
) -> None:
    loads = [rounds.run(target, number) for number in range(request.config.getoption("--rounds"))]
    done = [entry for entry in rounds.done if entry.target == target]
    faults = [(entry.number, fault) for entry in done for fault in entry.faults]
    faults += [
        (number, f"later: {fault}") for number, load in enumerate(loads) for fault in load.find_faults()
    ]
    assert faults == [], f"--seed {rounds.seed}"
    assert ledger_faults(rounds.system) == [], f"--seed {rounds.seed}"


def ledger_faults(system: System, run_ids: Iterable[str] | None = None) -> list[str]:
    """Return the differences between ledger, hives and reports of these runs, by default of all runs."""
    command = [sys.executable, "-m", "event_hooks.maintain_ledger.consistency", "--hours", "2"]
    result = subprocess.run(
        command, env=system.airflow.environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode in (0, 1), result.stderr
    *faults, count = result.stdout.splitlines()
    assert count.endswith(f"{len(faults)} faults"), result.stdout
    return [fault for fault in faults if run_ids is None or any(run_id in fault for run_id in run_ids)]
