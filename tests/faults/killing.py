"""The targets of kills, and their recovery."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil
from sqlalchemy import text

from tests.support.system import System

START_SECONDS = 90
BURST_SECONDS = 1.0


class Target(ABC):
    """
    A part of the system that is killed.

    :param chance: for random choices.
    """

    def __init__(self, system: System, chance: random.Random) -> None:
        self.system = system
        self.chance = chance

    @abstractmethod
    def kill(self, is_finished: Callable[[], bool]) -> str:
        """
        Kill the target as soon as it exists.

        :param is_finished: returns whether all runs have finished, so there is no target any more.
        :return: the name of the killed part; empty if all runs had finished before.
        """

    def restore(self) -> None:  # noqa: B027 (most targets restart without it)
        """Start the killed part again."""

    def wait_restored(self) -> None:  # noqa: B027
        """Wait until the part works again."""


class Worker(Target):
    """A process of the executor that supervises a task, or the process of the task."""

    def kill(self, is_finished: Callable[[], bool]) -> str:
        """Kill one of them; idle workers have no event and are not killed."""
        while not (busy := list(self._find_busy())):
            if is_finished():
                return ""
            time.sleep(0.01)
        kind, process = self.chance.choice(busy)
        with suppress(psutil.NoSuchProcess):
            process.kill()
        return kind

    def _find_busy(self) -> Iterator[tuple[str, psutil.Process]]:
        """Iterate over supervisors (children of a Celery worker or the scheduler) and their tasks."""
        folders = self.system.airflow.process_folders
        for name in [name for name in folders if name.startswith("worker")] or ["scheduler"]:
            leader = folders[name].leader()
            with suppress(psutil.NoSuchProcess):
                for supervisor in leader.children() if leader else ():
                    for task in supervisor.children():
                        yield from (("worker", supervisor), ("task", task))


class Scheduler(Target):
    """The scheduler with all its workers and their tasks."""

    def kill(self, is_finished: Callable[[], bool]) -> str:
        """Kill all of them."""
        self.system.airflow.kill("scheduler")
        return "scheduler"

    def restore(self) -> None:
        """Start a new scheduler, which detects that its workers have ended."""
        self.system.airflow.start_service("scheduler")


class Triggerer(Target):
    """One of two triggerers."""

    def __init__(self, system: System, chance: random.Random) -> None:
        super().__init__(system, chance)
        self._killed = ""
        self._newest_id_before = 0

    def kill(self, is_finished: Callable[[], bool]) -> str:
        """Kill one of the two triggerers."""
        self._killed = self.chance.choice(("triggerer", "triggerer-2"))
        self._newest_id_before = self._load_newest_id()
        self.system.airflow.kill(self._killed)
        return self._killed

    def restore(self) -> None:
        """Start the killed triggerer again."""
        self.system.airflow.start_service(self._killed)

    def wait_restored(self) -> None:
        """Wait until the new triggerer is registered in Airflow."""
        self.system.runs.wait_until(
            lambda: self._load_newest_id() > self._newest_id_before, START_SECONDS, lambda: "no new triggerer"
        )

    def _load_newest_id(self) -> int:
        """Return the job id of the newest triggerer."""
        params = {"job_type": "TriggererJob", "order_by": "-id", "limit": 1}
        response = self.system.runs.request("GET", "/jobs", params=params)
        response.raise_for_status()
        return int(response.json()["jobs"][0]["id"])


class Connection(Target):
    """All connections of Airflow to the hives, repeatedly for a second."""

    def kill(self, is_finished: Callable[[], bool]) -> str:
        """Kill all connections, including those that are opened during this second."""
        count, deadline = 0, time.monotonic() + BURST_SECONDS
        while time.monotonic() < deadline or not (count or is_finished()):
            count += sum(map(self._kill_all, self.system.hives))
            time.sleep(0.01)
        return "connections" if count else ""

    def _kill_all(self, hive: str) -> int:
        """Kill the connections to one hive, and return their number; user and database have the same name."""
        user = self.system.hives[hive].url.database
        with self.system.hives[hive].connect() as connection:
            query = text("SELECT id FROM information_schema.processlist WHERE user = :user")
            ids = connection.execute(query, {"user": user}).scalars().all()
            if ids:
                connection.exec_driver_sql(f"KILL USER '{user}'")
        return len(ids)


TARGETS: dict[str, type[Target]] = {
    "worker": Worker,
    "triggerer": Triggerer,
    "scheduler": Scheduler,
    "connection": Connection,
}
