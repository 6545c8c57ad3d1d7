"""The two lookup files: from the type of an event to its processes, and from a process to its analysis."""

from __future__ import annotations

import json
import logging
import os
import stat
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import jsonschema
from pydantic import BaseModel, ConfigDict, SecretStr
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from event_hooks import addresses, settings
from event_hooks.events import rules
from event_hooks.events.rules import EventRules
from event_hooks.exceptions import EventInvalid, EventTypeUnknown, LookupInvalid
from event_hooks.field_path import FieldPath
from event_hooks.masking import mask_text

if TYPE_CHECKING:
    from event_hooks.events.models import Event

log = logging.getLogger(__name__)

SCHEMAS = Path(__file__).parent / "schemas"
"""The JSON schemas of the lookup files."""

MAX_FILE_BYTES = 10 * 2**20
"""Maximum size of a lookup file."""

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
    cache_file = settings.lookup_cache_dir() / "lookups.json"
    try:
        contents = _read_files(settings.event_lookup(), settings.process_lookup())
    except LookupInvalid as error:
        if not cache_file.exists():
            raise
        log.warning("Using the last valid lookups, because %s", error)
        return _build_lookups(*json.loads(cache_file.read_text()))
    _write_cache(cache_file, json.dumps(contents))
    return _build_lookups(*contents)


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
    events = _read_file(event_lookup, "event_lookup")
    processes = _read_file(process_lookup, "process_lookup")
    for name, fields in processes.items():
        if "hive_uri" in fields and not _is_hive_uri(fields["hive_uri"]):
            raise LookupInvalid(process_lookup, f"{name}.hive_uri", _EXPECTED_URI)
    for key, name in rules.iter_process_names(events):
        if name not in processes:
            raise LookupInvalid(event_lookup, key, f"expected a process of the process lookup, not {name!r}")
    emits = {name: fields.get("emits", ()) for name, fields in processes.items()}
    if cycle := rules.find_cycle(rules.parse_rules(events, event_lookup), emits):
        expected = f"expected no loop, found {' → '.join(cycle)}: remove one of its types from an emits"
        raise LookupInvalid(process_lookup, f"{cycle[1]}.emits", expected)
    return events, processes


def _build_lookups(events: dict[str, Any], processes: dict[str, Any]) -> Lookups:
    return Lookups(
        rules=rules.parse_rules(events, settings.event_lookup()),
        processes={name: Process(name=name, **fields) for name, fields in processes.items()},
    )


_EXPECTED_URI = f"expected mysql://user:password@host:port/database or sqlite:///file; {addresses.ADVICE}"


def _is_hive_uri(uri: str) -> bool:
    try:
        return addresses.has_single_at(uri) and bool(make_url(uri).database)
    except (ArgumentError, ValueError):
        return False


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
    schema = json.loads((SCHEMAS / f"{schema_name}.schema.json").read_text())
    errors = jsonschema.Draft202012Validator(schema).iter_errors(lookup)
    if first := min(errors, key=lambda error: list(map(str, error.absolute_path)), default=None):
        raise LookupInvalid(file, _error_key(first), _error_message(first))
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


def _error_key(error: jsonschema.ValidationError) -> str:
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    name = f".{error.instance}" if "propertyNames" in error.absolute_schema_path else ""
    return f"{steps}{name}".removeprefix(".")


def _error_message(error: jsonschema.ValidationError) -> str:
    """Return the expectation of a schema, without the value where it may contain a password."""
    rule, expected = error.validator, error.validator_value
    if rule == "oneOf":
        return "expected either hive_conn_id or hive_uri, and not both"
    if "hive_uri" in error.absolute_path:
        return _EXPECTED_URI
    if rule == "pattern":
        shown = str(expected).removesuffix(r"(?!\n)")  # in Python, $ also matches before a line break
        return f"expected a text like {shown}, not {error.instance!r}"
    if rule == "minProperties":
        return "expected at least one entry"
    if rule == "maximum":
        return f"expected a number of at most {expected}, not {error.instance!r}"
    if rule == "exclusiveMinimum":
        return f"expected a number above {expected}, not {error.instance!r}"
    if rule == "type":
        kinds = expected if isinstance(expected, str) else " or ".join(cast("list[str]", expected))
        return f"expected {kinds}, not {type(error.instance).__name__}"
    return str(error.message)
