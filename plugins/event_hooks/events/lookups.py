"""The two lookup files: from the type of an event to its processes, and from a process to its analysis."""

from __future__ import annotations

import json
import logging
import os
import stat
import tempfile
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, SecretStr

from event_hooks import settings
from event_hooks.events import lookup_schema, rules
from event_hooks.events.rules import EventRules
from event_hooks.exceptions import EventInvalid, EventTypeUnknown, LookupInvalid
from event_hooks.field_path import FieldPath
from event_hooks.masking import mask_text

if TYPE_CHECKING:
    from event_hooks.events.models import Event

log = logging.getLogger(__name__)

MAX_FILE_BYTES = 10 * 2**20
"""Maximum size of a lookup file."""

EVENT_LOOKUP, PROCESS_LOOKUP = "event_lookup", "process_lookup"
"""Names of the two lookups: of their settings, of their schemas, and of fields of the API."""

URI_PREFIX = "lookup:"
"""Prefix of the connection id of a process with a ``hive_uri``; the process's name follows."""


class Process(BaseModel):
    """One reaction to an event, as the process lookup describes it."""

    model_config = ConfigDict(frozen=True)

    name: str
    analysis: str
    """``analysis_base.logic_name`` in the hive."""

    hive_conn_id: str = ""
    hive_uri: SecretStr | None = None
    ready_timeout: float | None = None
    """Seconds that a job may be READY before it is reported as stalled; ``None`` for the setting."""

    guihive: str | None = None
    """URL of the hive in guiHIVE."""

    job_timeout: float | None = None
    """Seconds that a job with its job tree may take; ``None`` for the setting."""

    deadline: float | None = None
    """Seconds after the plan at which an unfinished process is reported as late; ``None`` for never."""

    pool: str = "default_pool"
    """Airflow pool that limits how many tasks submit to the hive at the same time."""

    emits: tuple[str, ...] = ()
    """Types of the follow-up events of a success."""

    def model_post_init(self, context: Any) -> None:
        """Set the connection id of a process with a ``hive_uri``: other modules only use connection ids."""
        if self.hive_uri:
            object.__setattr__(self, "hive_conn_id", f"{URI_PREFIX}{self.name}")


class Lookups(BaseModel):
    """Both lookups, validated one by one and against each other."""

    model_config = ConfigDict(frozen=True)

    rules: EventRules
    processes: dict[str, Process]
    """``{process name: process}``."""

    @property
    def event_types(self) -> list[str]:
        """Return the types of events, sorted."""
        return sorted(self.rules.process_names)

    @property
    def emits(self) -> dict[str, tuple[str, ...]]:
        """Return the types of the follow-up events: ``{process: types}``."""
        return {name: process.emits for name, process in self.processes.items()}

    def find_place(self, name: str) -> tuple[str, str, str]:
        """Return (process, hive, analysis) of a process."""
        process = self.processes[name]
        return name, process.hive_conn_id, process.analysis

    def select_names(self, event: Event, path: FieldPath | None = None) -> Sequence[str]:
        """
        Return the names of the processes that react to one event by itself.

        Processes that wait for further events (joins) are left out.

        :param path: of the event in error messages.
        :raises EventTypeUnknown: the event lookup does not have the type of the event.
        :raises EventInvalid: the event lacks a field of ``once_per``, or its join's process was removed.
        """
        path = path or FieldPath()
        if event.type not in self.rules.process_names:
            expected = f"expected one of {', '.join(self.event_types)}, not {mask_text(event.type)[:100]!r}"
            raise EventTypeUnknown(path.child("type"), expected)
        if not event.joined:
            # A join starts at its first event, so the once_per of its process is checked here as well.
            self._check_once_fields(event, path, self.rules.processes_for(event.type))
            return self.rules.process_names[event.type]
        if event.joined.process not in self.processes:
            process = mask_text(event.joined.process)[:100]
            expected = (
                f"expected one of {', '.join(sorted(self.processes))}, not {process!r}: "
                "it was removed from the lookup while it waited"
            )
            raise EventInvalid(path.child("joined").child("process"), expected)
        self._check_once_fields(event, path, [event.joined.process])
        return [event.joined.process]

    def _check_once_fields(self, event: Event, path: FieldPath, names: Sequence[str]) -> None:
        payload = event.payload()
        for name in names:
            fields = self.rules.once_per.get(name, ())
            if missing := [field for field in fields if field not in payload]:
                expected = f"expected a value, or null: {name} runs once per {', '.join(fields)}"
                raise EventInvalid(path.child(missing[0]), expected)


def load(event_lookup: Path, process_lookup: Path) -> Lookups:
    """
    Read and validate both files; also those of the Flask app, as they are.

    :raises LookupInvalid: names the file, the key and the expected value; never shows a password.
    """
    return _build_lookups(*_read_files(event_lookup, process_lookup))


def load_with_fallback() -> Lookups:
    """
    Read both files, or, if they are invalid, the last valid copy on this machine.

    Events are processed with the copy until the files are fixed; ``check_lookups`` reports the error.

    :raises LookupInvalid: the files are invalid and this machine has no valid copy.
    """
    return _build_lookups(*_read_with_fallback())


def load_with_replacements(
    event_lookup: dict[str, Any] | None, process_lookup: dict[str, Any] | None
) -> tuple[Lookups, Lookups]:
    """
    Return the present lookups, and the lookups after a change; the files stay as they are.

    :param event_lookup: the new content of the event lookup; ``None`` if it does not change.
    :param process_lookup: the same for the process lookup.
    :raises EventInvalid: the new content is invalid. The message names the changed lookup, and is otherwise
        that of a lookup file.
    :raises LookupInvalid: the present lookups are invalid, as in :func:`load_with_fallback`.
    """
    present = dict(zip((EVENT_LOOKUP, PROCESS_LOOKUP), _read_with_fallback(), strict=True))
    given = {EVENT_LOOKUP: event_lookup, PROCESS_LOOKUP: process_lookup}
    changed = {name: content for name, content in given.items() if content is not None}
    try:
        for name, content in changed.items():
            lookup_schema.check(content, name, name)
        contents = (present | changed).values()
        _check_together(*contents, *given)
        return _build_lookups(*present.values()), _build_lookups(*contents)
    except LookupInvalid as error:
        raise _to_field_error(error, changed) from None


def _to_field_error(error: LookupInvalid, changed: Collection[str]) -> EventInvalid:
    """Return the error of a changed lookup; the key may be in the lookup that did not change."""
    if error.file in changed:
        return EventInvalid(error.file, f"{error.key}: {error.expected}")
    return EventInvalid(next(iter(changed)), f"{error.file}: {error.key}: {error.expected}")


def _read_with_fallback() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the contents of both files, or of the last valid copy; see :func:`load_with_fallback`."""
    cache_file = settings.lookup_cache_dir() / "lookups.json"
    try:
        contents = _read_files(settings.event_lookup(), settings.process_lookup())
    except LookupInvalid as error:
        if not cache_file.exists():
            raise
        log.warning("Using the last valid lookups, because %s", error)
        copy: tuple[dict[str, Any], dict[str, Any]] = json.loads(cache_file.read_text())
        return copy
    _write_cache(cache_file, json.dumps(contents))
    return contents


def load_cached() -> Lookups:
    """Return the result of :func:`load_with_fallback`; read the files only when one of them has changed."""
    files = (settings.event_lookup(), settings.process_lookup())
    return _load_versions(*(_file_version(file) for file in files))


@lru_cache(maxsize=1)
def _load_versions(*versions: object) -> Lookups:
    return load_with_fallback()


def _file_version(file: Path) -> tuple[object, ...]:
    try:
        status = file.stat()
    except OSError as error:
        return (file, error.errno)
    return (file, status.st_ino, status.st_size, status.st_mtime_ns)


def find_hive_uri(hive_conn_id: str) -> str | None:
    """Return the ``hive_uri`` behind the connection id of such a process; ``None`` for any other id."""
    if not hive_conn_id.startswith(URI_PREFIX):
        return None
    process = load_cached().processes.get(hive_conn_id.removeprefix(URI_PREFIX))
    return process.hive_uri.get_secret_value() if process and process.hive_uri else None


def _read_files(event_lookup: Path, process_lookup: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    events = _read_file(event_lookup, EVENT_LOOKUP)
    processes = _read_file(process_lookup, PROCESS_LOOKUP)
    _check_together(events, processes, event_lookup, process_lookup)
    return events, processes


def _check_together(
    events: dict[str, Any], processes: dict[str, Any], event_lookup: object, process_lookup: object
) -> None:
    """
    Check two lookups against each other; each matches its schema.

    :param event_lookup: name of the event lookup in error messages.
    :param process_lookup: the same of the process lookup.
    """
    for key, name in rules.iter_process_names(events):
        if name not in processes:
            raise LookupInvalid(event_lookup, key, f"expected a process of the process lookup, not {name!r}")
    emits = {name: fields.get("emits", ()) for name, fields in processes.items()}
    if cycle := rules.find_cycle(rules.parse_rules(events, event_lookup), emits):
        expected = f"expected no loop, found {' → '.join(cycle)}: remove one of its types from an emits"
        raise LookupInvalid(process_lookup, f"{cycle[1]}.emits", expected)


def _build_lookups(events: dict[str, Any], processes: dict[str, Any]) -> Lookups:
    return Lookups(
        rules=rules.parse_rules(events, settings.event_lookup()),
        processes={name: Process(name=name, **fields) for name, fields in processes.items()},
    )


def _write_cache(cache_file: Path, text: str) -> None:
    """Store the valid lookups, readable by this user only; processes may do so at the same time."""
    try:
        if cache_file.exists() and cache_file.read_text() == text:
            return
        cache_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=cache_file.parent)
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(temporary).replace(cache_file)
    except OSError as error:
        log.warning("Cannot store the valid lookups, which are used while the files are invalid: %s", error)


def _read_file(file: Path, schema_name: str) -> dict[str, Any]:
    """Read a lookup file and validate it against its schema."""
    lookup: dict[str, Any] = _parse_file(file)
    lookup_schema.check(lookup, file, schema_name)
    return lookup


def _parse_file(file: Path) -> Any:
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
            raise LookupInvalid(file, "", f"expected a regular file of at most {MAX_FILE_BYTES} bytes")
        # Editors on Windows write a byte order mark. Each task would have to import the codec utf-8-sig.
        text = file.read_text("utf-8").removeprefix("\ufeff")
        return json.loads(text, object_pairs_hook=lambda pairs: _unique_keys(pairs, file))
    except OSError as error:
        raise LookupInvalid(file, "", f"cannot be read: {error.strerror}") from None
    except RecursionError:
        raise LookupInvalid(file, "", "expected fewer levels of objects and arrays") from None
    except ValueError as error:
        raise LookupInvalid(file, "", f"expected JSON: {error}") from None


def _unique_keys(pairs: list[tuple[str, Any]], file: Path) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise LookupInvalid(file, duplicates[0], "expected once, found twice")
    return dict(pairs)
