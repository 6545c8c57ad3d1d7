"""What can be killed, and how it comes back."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil
from sqlalchemy import text

from tests.support.running_airflow import System
from tools.airflow_services import PROGRAMS
from tools.processes import ProcessFolder

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
    def kill(self, is_over: Callable[[], bool]) -> str:
        """
        Kill now, or as soon as there is something to kill.

        :param is_over: tells that nothing will come any more.
        :return: what was killed; nothing if all was over before.
        """

    def restore(self) -> None:  # noqa: B027 (most come back by themselves)
        """Start again what was killed."""

    def wait_restored(self) -> None:  # noqa: B027
        """Wait until it works."""


class Worker(Target):
    """A worker of the LocalExecutor that runs a task, or the process of that task."""

    def kill(self, is_over: Callable[[], bool]) -> str:
        """Kill one of them; an idle worker holds no event."""
        while not (busy := list(self._busy())):
            if is_over():
                return ""
            time.sleep(0.01)
        kind, process = self.chance.choice(busy)
        with suppress(psutil.NoSuchProcess):
            process.kill()
        return kind

    def _busy(self) -> Iterator[tuple[str, psutil.Process]]:
        scheduler = self.system.airflow.places["scheduler"].leader()
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(scheduler.pid).children(recursive=True) if scheduler else ():
                parent = process.parent()
                if parent and scheduler and parent.ppid() == scheduler.pid:
                    yield from (("worker", parent), ("task", process))


class Scheduler(Target):
    """The scheduler with all its workers and their tasks."""

    def kill(self, is_over: Callable[[], bool]) -> str:
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
        self.second = ProcessFolder(system.airflow.folder / "triggerer-2")
        self._killed = ""
        self._newest_before = 0

    def kill(self, is_over: Callable[[], bool]) -> str:
        """Kill one of the two."""
        self._killed = self.chance.choice(("triggerer", "triggerer-2"))
        self._newest_before = self._newest()
        if self._killed == "triggerer":
            self.system.airflow.kill("triggerer")
        else:
            self.second.kill()
        return self._killed

    def restore(self) -> None:
        """Start it again."""
        if self._killed == "triggerer":
            self.system.airflow.start_service("triggerer")
        else:
            self.start_second()

    def wait_restored(self) -> None:
        """Wait until Airflow knows the new one."""
        self.system.runs.until(
            lambda: self._newest() > self._newest_before, START_SECONDS, lambda: "no new triggerer"
        )

    def start_second(self) -> None:
        """Start a triggerer beside the one that is always there."""
        command = [str(PROGRAMS / "airflow"), "triggerer", "--skip-serve-logs"]
        self._newest_before = self._newest()
        self.second.start(command, self.system.airflow.environment)

    def _newest(self) -> int:
        """Give the id of the triggerer that came last."""
        newest = {"job_type": "TriggererJob", "order_by": "-id", "limit": 1}
        answer = self.system.runs.ask("GET", "/jobs", params=newest)
        answer.raise_for_status()
        return int(answer.json()["jobs"][0]["id"])


class Connection(Target):
    """All connections of Airflow to the hives, again and again for a second."""

    def kill(self, is_over: Callable[[], bool]) -> str:
        """Kill every connection that there is, or that is made anew meanwhile."""
        count, limit = 0, time.monotonic() + BURST_SECONDS
        while time.monotonic() < limit or not (count or is_over()):
            count += sum(self._kill_all(at) for at in range(len(self.system.hives)))
            time.sleep(0.01)
        return "connections" if count else ""

    def _kill_all(self, at: int) -> int:
        """Kill the connections to one hive: its user's name is the hive's."""
        user = self.system.hives[at].url.database
        with self.system.hives[at].connect() as connection:
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
