"""Lookup files that change while events flow; Airflow parses the DAG files by itself."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TYPES = ("changing_1", "changing_2")
"""The event types whose processes change."""

HIVES = ("hive_change_1", "hive_change_2")
ANALYSES = ("event_dump_dna", "event_dump_peptide")
MAX_PROCESSES = 5

Plan = frozenset[tuple[str, str]]
"""``{(process, hive)}`` of an event."""


class ChangingLookups:
    """
    Both lookup files, with all versions since the first change.

    :param files: as of :meth:`Installation.lookup_files`.
    """

    def __init__(self, files: Mapping[str, Path], chance: random.Random) -> None:
        self._files = files
        self._chance = chance
        self._before = {name: file.read_text() for name, file in files.items()}
        self._events: dict[str, list[Any]] = json.loads(self._before["event_lookup"])
        self._processes: dict[str, dict[str, Any]] = json.loads(self._before["process_lookup"])
        self._versions = [(time.monotonic(), self._plans())]
        self.removed_at: dict[str, float] = {}
        """``{process that has been removed: time in seconds since 1970}``; none is added again."""

    @property
    def _names(self) -> list[str]:
        return [name for name in self._processes if name.startswith("dump_changing_")]

    def add(self) -> str:
        """Add a process to a random event type."""
        if len(self._names) >= MAX_PROCESSES:
            return self.remove()
        name, event_type = f"dump_changing_{len(self._versions) + 2}", self._chance.choice(TYPES)
        analysis, hive = self._chance.choice(ANALYSES), self._chance.choice(HIVES)
        self._processes[name] = {"analysis": analysis, "hive_conn_id": hive}
        self._write("process_lookup", self._processes)
        self._events[event_type].append(name)
        self._write("event_lookup", self._events)
        return f"{name} is added for {event_type} in {hive}"

    def remove(self) -> str:
        """Remove a random process, but not the last one."""
        if len(self._names) == 1:
            return self.add()
        name = self._chance.choice(self._names)
        self.removed_at[name] = time.time()
        for event_type in TYPES:
            self._events[event_type] = [process for process in self._events[event_type] if process != name]
        self._write("event_lookup", self._events)
        del self._processes[name]
        self._write("process_lookup", self._processes)
        return f"{name} is removed"

    def move(self) -> str:
        """Move a random process to another hive."""
        name = self._chance.choice(self._names)
        before = self._processes[name]["hive_conn_id"]
        (after,) = set(HIVES) - {before}
        self._processes[name]["hive_conn_id"] = after
        self._write("process_lookup", self._processes)
        return f"{name} is moved from {before} to {after}"

    def restore(self) -> None:
        """Write the original files."""
        for name, text in self._before.items():
            self._replace(name, text)

    def possible_plans(self, event_type: str, sent_at: float) -> set[Plan]:
        """Return the plans of the versions that were in force when an event was sent, or later."""
        older = [plans[event_type] for changed_at, plans in self._versions if changed_at <= sent_at]
        newer = [plans[event_type] for changed_at, plans in self._versions if changed_at > sent_at]
        return {older[-1], *newer}

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a file; each of the two writes of a change leaves valid files."""
        self._replace(name, json.dumps(content))
        self._versions.append((time.monotonic(), self._plans()))

    def _replace(self, name: str, text: str) -> None:
        temporary = self._files[name].with_suffix(".new")
        temporary.write_text(text)
        temporary.replace(self._files[name])

    def _plans(self) -> dict[str, Plan]:
        return {
            event_type: frozenset(
                (name, self._processes[name]["hive_conn_id"]) for name in self._events[event_type]
            )
            for event_type in TYPES
        }
