"""
Check the lookups before they are used: the files, what they say together, and the hives that they name.

``event-hooks lint`` prints what is found.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from sqlalchemy import make_url

from event_hooks import settings
from event_hooks.events import lookups
from event_hooks.exceptions import AnalysisNotFound, HiveRejected, HiveTooOld, HiveUnreachable, LookupInvalid
from event_hooks.hive.connection import resolve_hive, resolve_hive_uri
from event_hooks.hive.hook import HiveHook

if TYPE_CHECKING:
    from event_hooks.events.lookups import Lookups, Process

AT_ONCE = 8
"""Hives that are asked at the same time."""


class Finding(NamedTuple):
    """What is not as it should be, and what to do."""

    level: Literal["error", "warning"]
    file: str
    key: str
    message: str

    def __str__(self) -> str:
        """Give it as a line."""
        return f"{self.level}: {self.file}: {self.key}: {self.message}"


def lint(
    event_lookup: Path | None = None, process_lookup: Path | None = None, *, is_offline: bool = False
) -> Iterator[Finding]:
    """
    Check two lookup files; a file that cannot be used at all is the only finding.

    :param event_lookup: default that of the settings, as for the other.
    :param is_offline: ask no hive, and for no connection.
    """
    events, processes = event_lookup or settings.event_lookup(), process_lookup or settings.process_lookup()
    try:
        found = lookups.load(events, processes)
    except LookupInvalid as error:
        yield Finding("error", error.file, error.key, error.expected)
        return
    yield from _unused(found, str(processes))
    yield from _follow_ups(found, str(processes))
    yield from _passwords(found, str(processes))
    if not is_offline:
        yield from _hives(found, str(processes))


def _unused(found: Lookups, file: str) -> Iterator[Finding]:
    used = {name for event_type in found.types for name in found.rules.processes_for(event_type)}
    for name in found.processes:
        if name not in used:
            advice = "no event type names it: name it in the event lookup, or take it out"
            yield Finding("warning", file, name, advice)


def _follow_ups(found: Lookups, file: str) -> Iterator[Finding]:
    for name, process in found.processes.items():
        for position, event_type in enumerate(process.emits):
            if event_type not in found.types:
                known = ", ".join(found.types)
                yield Finding(
                    "error", file, f"{name}.emits[{position}]", f"expected one of {known}, not {event_type!r}"
                )


def _passwords(found: Lookups, file: str) -> Iterator[Finding]:
    for name, process in found.processes.items():
        if process.hive_uri and make_url(process.hive_uri.get_secret_value()).password:
            advice = "there is a password in it: make an Airflow connection, and name that as hive_conn_id"
            yield Finding("warning", file, f"{name}.hive_uri", advice)


def _hives(found: Lookups, file: str) -> Iterator[Finding]:
    # A command is not told where connections are; so it also looks where Airflow's own commands do.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for problem in pool.map(_problem, found.processes.values()):
            if problem:
                yield Finding("error", file, *problem)


def _problem(process: Process) -> tuple[str, str] | None:
    """Ask a hive whether it takes jobs of a process; give key and message if not."""
    place = f"{process.name}.{'hive_uri' if process.hive_uri else 'hive_conn_id'}"
    try:
        uri = process.hive_uri
        at = resolve_hive_uri(uri.get_secret_value()) if uri else resolve_hive(process.hive_conn_id)
        HiveHook(process.hive_conn_id, at).check(process.analysis)
    except AnalysisNotFound as error:
        return f"{process.name}.analysis", f"{error}: mend the name, or add it to the pipeline"
    except HiveTooOld as error:
        return place, f"{error}: apply eHive's own patches (sql/patch_*) to it"
    except HiveRejected as error:
        return place, f"{error}: mend the connection, or the rights of its user"
    except HiveUnreachable as error:
        return place, f"{error}: make or mend the connection, or see that its server runs"
    return None
