"""What the logs of Airflow say about a failed test."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.support.system import System

LINES = 25
"""At most so many lines of each log, the last ones."""

WIDTH = 300
"""Longer lines are cut."""

PROBLEM = re.compile(r"\[(warning|error|critical)\b|Traceback|^\w*(Error|Exception):")
HARMLESS = re.compile(r"http\.access|Dropping invalid tag|XCom not found")
"""Requests, and what Airflow 3.3 calls an error in each run."""


class LogExcerpts:
    """
    The logs of all parts of Airflow from now on.

    :param system: the Airflow that writes them.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._logs = {name: place.log for name, place in system.airflow.places.items()}
        self._sizes = {name: _size(log) for name, log in self._logs.items()}
        self._run_ids_before = len(system.run_ids)

    def sections(self, *names: str) -> Iterator[tuple[str, str]]:
        """
        Iterate over excerpts as (title, text): problems, and lines with one of the names or run ids.

        :param names: such as the test's genome.
        """
        run_ids = self._system.run_ids[self._run_ids_before :]
        for name, log in self._logs.items():
            new = _read(log, self._sizes[name]).splitlines()
            if lines := list(_concerned(new, (*names, *run_ids))):
                yield f"Airflow's {name} ({log})", "\n".join(lines[-LINES:])
        for run_id in run_ids:
            for log in sorted((self._system.airflow.folder / "logs").glob(f"*/run_id={run_id}/*/*.log")):
                title = f"task log {log.relative_to(self._system.airflow.folder)}"
                yield title, "\n".join(_read(log, 0).splitlines()[-LINES:])


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _read(log: Path, start: int) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")


def _concerned(lines: Iterable[str], names: tuple[str, ...]) -> Iterator[str]:
    return (
        line[:WIDTH]
        for line in lines
        if (PROBLEM.search(line) or any(name in line for name in names)) and not HARMLESS.search(line)
    )
