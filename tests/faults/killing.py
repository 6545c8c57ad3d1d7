"""What can be killed, and how it comes back."""

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
    One kind of thing that is killed.

    :param chance: chooses where there is a choice.
    """

    def __init__(self, system: System, chance: random.Random) -> None:
        self.system = system
        self.chance = chance

    @abstractmethod
    def kill(self, is_finished: Callable[[], bool]) -> str:
        """
        Kill now, or as soon as there is something to kill.

        :param is_finished: tells that nothing will come any more.
        :return: what was killed; nothing if all was over before.
        """

    def restore(self) -> None:  # noqa: B027 (most come back by themselves)
        """Start again what was killed."""

    def wait_restored(self) -> None:  # noqa: B027
        """Wait until it works."""


class Worker(Target):
    """A process of the executor that supervises a task, or the process of that task."""

    def kill(self, is_finished: Callable[[], bool]) -> str:
        """Kill one of them; an idle worker holds no event."""
        while not (busy := list(self._busy())):
            if is_finished():
                return ""
            time.sleep(0.01)
        kind, process = self.chance.choice(busy)
        with suppress(psutil.NoSuchProcess):
            process.kill()
        return kind

    def _busy(self) -> Iterator[tuple[str, psutil.Process]]:
        """Iterate over supervisors (children of a Celery worker or the scheduler) and their tasks."""
        places = self.system.airflow.places
        for name in [name for name in places if name.startswith("worker")] or ["scheduler"]:
            leader = places[name].leader()
            with suppress(psutil.NoSuchProcess):
                for supervisor in leader.children() if leader else ():
                    for task in supervisor.children():
                        yield from (("worker", supervisor), ("task", task))


class Scheduler(Target):
    """The scheduler with all its workers and their tasks."""

    def kill(self, is_finished: Callable[[], bool]) -> str:
        """Kill them."""
        self.system.airflow.kill("scheduler")
        return "scheduler"

    def restore(self) -> None:
        """Start a new one, which finds its workers dead."""
        self.system.airflow.start_service("scheduler")


class Triggerer(Target):
    """One of two triggerers."""

    def __init__(self, system: System, chance: random.Random) -> None:
        super().__init__(system, chance)
        self._killed = ""
        self._newest_before = 0

    def kill(self, is_finished: Callable[[], bool]) -> str:
        """Kill one of the two."""
        self._killed = self.chance.choice(("triggerer", "triggerer-2"))
        self._newest_before = self._newest()
        self.system.airflow.kill(self._killed)
        return self._killed

    def restore(self) -> None:
        """Start it again."""
        self.system.airflow.start_service(self._killed)

    def wait_restored(self) -> None:
        """Wait until Airflow knows the new one."""
        self.system.runs.until(
            lambda: self._newest() > self._newest_before, START_SECONDS, lambda: "no new triggerer"
        )

    def _newest(self) -> int:
        """Give the id of the triggerer that came last."""
        newest = {"job_type": "TriggererJob", "order_by": "-id", "limit": 1}
        answer = self.system.runs.ask("GET", "/jobs", params=newest)
        answer.raise_for_status()
        return int(answer.json()["jobs"][0]["id"])


class Connection(Target):
    """All connections of Airflow to the hives, again and again for a second."""

    def kill(self, is_finished: Callable[[], bool]) -> str:
        """Kill every connection that there is, or that is made anew meanwhile."""
        count, limit = 0, time.monotonic() + BURST_SECONDS
        while time.monotonic() < limit or not (count or is_finished()):
            count += sum(map(self._kill_all, self.system.hives))
            time.sleep(0.01)
        return "connections" if count else ""

    def _kill_all(self, hive: str) -> int:
        """Kill the connections to one hive: its user's name is that of its database."""
        user = self.system.hives[hive].url.database
        with self.system.hives[hive].connect() as connection:
            listed = text("SELECT id FROM information_schema.processlist WHERE user = :user")
            ids = connection.execute(listed, {"user": user}).scalars().all()
            if ids:
                connection.exec_driver_sql(f"KILL USER '{user}'")
        return len(ids)


TARGETS: dict[str, type[Target]] = {
    "worker": Worker,
    "triggerer": Triggerer,
    "scheduler": Scheduler,
    "connection": Connection,
}
