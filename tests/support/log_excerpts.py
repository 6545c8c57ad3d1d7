"""Excerpts of Airflow's logs for the report of a failed test."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.support.system import System
from tools.airflow_services import AirflowServices

MAX_LINES = 25
"""Of each log, only the last lines are shown."""

MAX_CHARACTERS = 300
"""Longer lines are cut."""

PROBLEM = re.compile(r"\[(warning|error|critical)\b|Traceback|^\w*(Error|Exception):")
HARMLESS = re.compile(r"http\.access|Dropping invalid tag|XCom not found")
"""Log lines of requests, and lines that Airflow 3.3 logs as errors in each run."""


class LogExcerpts:
    """
    The lines that are added to Airflow's logs after the creation of this object.

    :param system: the Airflow that writes them.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._logs = {name: folder.log for name, folder in system.airflow.process_folders.items()}
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
            if lines := list(_select_lines(new, (*names, *run_ids))):
                yield f"Airflow's {name} ({log})", "\n".join(lines[-MAX_LINES:])
        for run_id in run_ids:
            for log in sorted((self._system.airflow.folder / "logs").glob(f"*/run_id={run_id}/*/*.log")):
                title = f"task log {log.relative_to(self._system.airflow.folder)}"
                yield title, "\n".join(_read(log, 0).splitlines()[-MAX_LINES:])


def list_ended(airflow: AirflowServices) -> Iterator[str]:
    """Iterate over lines about the services that have ended, each with the last problems in its log."""
    for name, folder in airflow.process_folders.items():
        if folder.leader() is None:
            problems = _select_lines(_read(folder.log, 0).splitlines(), ())
            yield from (f"Airflow's {name} has ended ({folder.log})", *list(problems)[-MAX_LINES:])


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _read(log: Path, start: int) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")


def _select_lines(lines: Iterable[str], names: tuple[str, ...]) -> Iterator[str]:
    return (
        line[:MAX_CHARACTERS]
        for line in lines
        if (PROBLEM.search(line) or any(name in line for name in names)) and not HARMLESS.search(line)
    )
