"""Random changes of everything that events depend on."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

from tests.faults.changing_hives import ChangingHive
from tests.faults.changing_lookups import HIVES, ChangingLookups
from tests.faults.clocks import Clocks
from tests.faults.patient_client import PatientClient
from tests.support.system import System
from tools.runs import DAG_PATH

COMPLETE = (
    "SELECT genome, process FROM event JOIN event_process ON event.id = event_id"
    " WHERE hive = :hive AND state = 'complete' AND genome LIKE :genome"
)
SUBMITTED = (
    "SELECT hive, count(*) FROM event JOIN event_process ON event.id = event_id"
    " WHERE state = 'submitted' AND genome LIKE :genome GROUP BY hive"
)
PLANNED = (
    "SELECT run_id, process FROM event JOIN event_process ON event.id = event_id"
    " WHERE genome LIKE :genome ORDER BY event.id DESC, process LIMIT 40"
)

WAIT_SECONDS = 20.0
"""Longest wait for an unfinished job."""


class Changes:
    """
    Random changes, one after the other.

    :param name: prefix of the genomes of all events.
    :ivar counts: number of changes by kind.
    :ivar log: a line for each change.
    """

    def __init__(self, system: System, name: str, chance: random.Random) -> None:
        self.system = system
        self.chance = chance
        self.lookups = ChangingLookups(system.installation.lookup_files, chance)
        self.hives = {hive: ChangingHive(hive, system.hives[hive]) for hive in HIVES}
        self.clocks = Clocks(system, chance)
        self.counts: Counter[str] = Counter()
        self.log: list[str] = []
        self.complete: list[tuple[str, int, set[tuple[str, str]]]] = []
        """(hive, generation, (genome, process) that were complete in the ledger at the end of it)."""

        self.cleared: Counter[tuple[str, str]] = Counter()
        """``{(run id, process): number of clears of its wait}``."""

        self._genomes = f"{name}%"
        self._client = PatientClient(system)
        self._started = time.monotonic()
        self.kinds: dict[str, Callable[[], str]] = {
            "process added": self.lookups.add,
            "process removed": self.lookups.remove,
            "process moved": self.lookups.move,
            "hive created again": self._create_hive_again,
            "wait cleared": self._clear_wait,
            "clock shifted": self.clocks.shift,
        }

    def make(self, kind: str) -> None:
        """Make one change of a kind."""
        text = self.kinds[kind]()
        self.counts[kind] += 1
        self.log.append(f"{time.monotonic() - self._started:6.1f} s: {text}")
        print(self.log[-1], flush=True)

    def start(self) -> None:
        """Start the workers of the hives."""
        for hive in self.hives.values():
            hive.start_worker()

    def close(self) -> None:
        """Restore clocks and lookups, stop the workers, and drop the databases of earlier generations."""
        self.clocks.restore()
        self.lookups.restore()
        for hive in self.hives.values():
            hive.close()

    def _create_hive_again(self) -> str:
        """Create the hive with most unfinished jobs again; wait for such a job if there is none."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not (rows := self.system.ledger_rows(SUBMITTED, genome=self._genomes)):
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        counts = dict(rows) or dict.fromkeys(HIVES, 0)
        hive = self.hives[max(counts, key=counts.__getitem__)]
        hive.stop_worker()
        rows = self.system.ledger_rows(COMPLETE, hive=hive.name, genome=self._genomes)
        self.complete.append((hive.name, len(hive.created), {(genome, process) for genome, process in rows}))
        hive.create_again()
        hive.start_worker()
        return f"{hive.name} is created again, with {counts[hive.name]} unfinished jobs"

    def _clear_wait(self) -> str:
        """Clear the wait of a random process of one of the latest runs, with downstream."""
        rows = self.system.ledger_rows(PLANNED, genome=self._genomes)
        if not rows:
            return "no run to clear"
        run_id, process = self.chance.choice(rows)
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [f"{process}.wait"],
            "only_failed": False,
            "include_downstream": True,
        }
        response = self._client.request("POST", f"/api/v2{DAG_PATH}/clearTaskInstances", json=body)
        if response.status_code != 200:
            return f"{run_id}: {process}.wait is not cleared: {response.status_code} {response.text[:200]}"
        self.cleared[run_id, process] += 1
        return f"{run_id}: {process}.wait is cleared"
