"""
Check the lookups before they are used: each file, both files together, and the hives that they name.

The setting `notifiers` is checked as well, and settings of earlier versions are reported.

``event-hooks lint`` prints the findings.
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
from event_hooks.notifications.notifiers import check_notifiers

if TYPE_CHECKING:
    from event_hooks.events.lookups import Lookups, Process

MAX_PARALLEL_HIVES = 8
"""Hives that are checked at the same time."""


class Finding(NamedTuple):
    """A problem in a lookup file, or in the section ``[event_hooks]``; the message says how to fix it."""

    level: Literal["error", "warning"]
    file: str
    key: str
    message: str

    def __str__(self) -> str:
        """Return the finding as a line of text."""
        return f"{self.level}: {self.file}: {self.key}: {self.message}"


def lint(
    event_lookup: Path | None = None, process_lookup: Path | None = None, *, is_offline: bool = False
) -> Iterator[Finding]:
    """
    Check two lookup files and the settings; of an invalid file, nothing else is checked.

    :param event_lookup: default: the file in the settings.
    :param process_lookup: default: the file in the settings.
    :param is_offline: check neither hives nor connections.
    """
    yield from _check_settings()
    event_lookup = event_lookup or settings.event_lookup()
    process_lookup = process_lookup or settings.process_lookup()
    try:
        loaded = lookups.load(event_lookup, process_lookup)
    except LookupInvalid as error:
        yield Finding("error", error.file, error.key, error.expected)
        return
    yield from _find_unused_processes(loaded, str(process_lookup))
    yield from _find_unknown_follow_ups(loaded, str(process_lookup))
    yield from _find_passwords(loaded, str(process_lookup))
    if not is_offline:
        yield from _check_hives(loaded, str(process_lookup))


def _check_settings() -> Iterator[Finding]:
    section = f"[{settings.SECTION}]"
    for name, step in settings.find_removed().items():
        yield Finding("error", section, name, step)
    for error in check_notifiers():
        yield Finding("error", section, error.field, error.expected)


def _find_unused_processes(loaded: Lookups, file: str) -> Iterator[Finding]:
    used = {name for event_type in loaded.event_types for name in loaded.rules.processes_for(event_type)}
    for name in loaded.processes:
        if name not in used:
            message = "no event type has this process: add it to the event lookup, or remove it here"
            yield Finding("warning", file, name, message)


def _find_unknown_follow_ups(loaded: Lookups, file: str) -> Iterator[Finding]:
    for name, process in loaded.processes.items():
        for position, event_type in enumerate(process.emits):
            if event_type not in loaded.event_types:
                message = f"expected one of {', '.join(loaded.event_types)}, not {event_type!r}"
                yield Finding("error", file, f"{name}.emits[{position}]", message)


def _find_passwords(loaded: Lookups, file: str) -> Iterator[Finding]:
    for name, process in loaded.processes.items():
        if process.hive_uri and make_url(process.hive_uri.get_secret_value()).password:
            message = "it contains a password: create an Airflow connection, and set its id as hive_conn_id"
            yield Finding("warning", file, f"{name}.hive_uri", message)


def _check_hives(loaded: Lookups, file: str) -> Iterator[Finding]:
    # Only with this context, which Airflow's own commands set, are connections loaded from its database.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    with ThreadPoolExecutor(MAX_PARALLEL_HIVES) as pool:
        for problem in pool.map(_check_hive, loaded.processes.values()):
            if problem:
                yield Finding("error", file, *problem)


def _check_hive(process: Process) -> tuple[str, str] | None:
    """Return key and message if the hive does not accept jobs of a process."""
    key = f"{process.name}.{'hive_uri' if process.hive_uri else 'hive_conn_id'}"
    try:
        uri = process.hive_uri
        engine_args = resolve_hive_uri(uri.get_secret_value()) if uri else resolve_hive(process.hive_conn_id)
        HiveHook(process.hive_conn_id, engine_args).check_analysis(process.analysis)
    except ValueError as error:
        return key, str(error)
    except AnalysisNotFound as error:
        return f"{process.name}.analysis", f"{error}: correct the name, or add it to the pipeline"
    except HiveTooOld as error:
        return key, f"{error}: apply eHive's patches (sql/patch_*) to its database"
    except HiveRejected as error:
        return key, f"{error}: fix the connection, or the permissions of its user"
    except HiveUnreachable as error:
        return key, f"{error}: create or fix the connection, or check that the server runs"
    return None
