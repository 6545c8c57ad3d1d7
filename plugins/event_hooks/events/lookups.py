"""From an event to its processes: the two lookup files."""

from __future__ import annotations

import json
import logging
import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import jsonschema
from pydantic import BaseModel, ConfigDict, SecretStr
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from event_hooks import settings
from event_hooks.events import rules
from event_hooks.events.models import Event, EventBatch
from event_hooks.events.rules import EventRules
from event_hooks.exceptions import EventInvalid, EventTypeUnknown, LookupInvalid

log = logging.getLogger(__name__)

SCHEMAS = Path(__file__).parent / "schemas"
"""The JSON schemas of the lookup files."""

MAX_FILE_BYTES = 10 * 2**20
"""Bytes that a lookup file may have."""

URI_PREFIX = "lookup:"
"""Begins the connection id of a process that gives a ``hive_uri``; the process's name follows."""


class Process(BaseModel):
    """One reaction to an event."""

    model_config = ConfigDict(frozen=True)

    name: str
    analysis: str
    hive_conn_id: str = ""
    hive_uri: SecretStr | None = None
    ready_timeout: float | None = None
    """Seconds that its job may be READY before people are told; None leaves it to the setting."""

    guihive: str | None = None
    """Where people look at its hive, in a browser."""

    job_timeout: float | None = None
    """Seconds that its job may take; None leaves it to the setting."""

    deadline: float | None = None
    """Seconds after which people are told that its job is not over; None for never."""

    pool: str = "default_pool"
    """Airflow's pool that limits how many tasks put jobs into its hive at a time."""

    emits: tuple[str, ...] = ()
    """Types of the events that follow once its job is done."""

    def model_post_init(self, context: Any) -> None:
        """Give a process that has a ``hive_uri`` a connection id, so that the rest knows only connections."""
        if self.hive_uri:
            object.__setattr__(self, "hive_conn_id", f"{URI_PREFIX}{self.name}")


class Lookups(BaseModel):
    """Both lookups, checked one by one and against each other."""

    model_config = ConfigDict(frozen=True)

    rules: EventRules
    processes: dict[str, Process]

    @property
    def types(self) -> list[str]:
        """Give the types of events, sorted."""
        return sorted(self.rules.process_names)

    @property
    def emits(self) -> dict[str, tuple[str, ...]]:
        """Give the types of the events that follow: ``{process: types}``."""
        return {name: process.emits for name, process in self.processes.items()}

    def plan(
        self, batch: EventBatch, noted: Mapping[int, Sequence[str]] | None = None
    ) -> dict[str, list[int]]:
        """
        Give each process the events that it reacts to.

        :param noted: ``{position: processes}`` of events for which that was decided before, and submitted, by
            lookups that may have changed since. A process that is gone is left out.
        :return: ``{process: [position of an event in the batch, …]}``, without the processes that have none,
            and those that wait for further events.
        :raises EventTypeUnknown: if an event's type is in no lookup.
        :raises EventInvalid: an event lacks a field for whose values a process runs only once.
        """
        positions: dict[str, list[int]] = {}
        for position, event in enumerate(batch.events):
            where = f"events[{position}]." if len(batch.events) > 1 else ""
            names = (noted or {}).get(position)
            for name in self._names(event, where) if names is None else names:
                if name in self.processes:
                    positions.setdefault(name, []).append(position)
        return positions

    def _names(self, event: Event, where: str) -> Sequence[str]:
        if event.type not in self.rules.process_names:
            expected = f"expected one of {', '.join(self.types)}, not {event.type[:100]!r}"
            raise EventTypeUnknown(f"{where}type", expected)
        if event.joined and event.joined.process not in self.processes:
            expected = (
                f"expected one of {', '.join(sorted(self.processes))}, not {event.joined.process[:100]!r}"
            )
            raise EventInvalid(f"{where}joined.process", f"{expected}: it left the lookup while it waited")
        names = [event.joined.process] if event.joined else self.rules.process_names[event.type]
        payload = event.payload()
        for name in names if event.joined else self.rules.processes_for(event.type):
            for field in self.rules.once_per.get(name, ()):
                if field not in payload:
                    rule = ", ".join(self.rules.once_per[name])
                    wanted = f"expected a value, or null: {name} is done once per {rule}"
                    raise EventInvalid(f"{where}{field}", wanted)
        return names


def load(event_lookup: Path, process_lookup: Path) -> Lookups:
    """
    Read and check both files.

    Files of the Flask app are accepted as they are.

    :raises LookupInvalid: names file, key and what was expected; never shows a password.
    """
    return _lookups(*_read(event_lookup, process_lookup))


def load_with_fallback() -> Lookups:
    """
    Read both files, or, where they are broken now, the copy of them that was last good on this machine.

    So events go on being processed while somebody mends a file; what is broken is told by ``check_lookups``.

    :raises LookupInvalid: if nothing was ever good here.
    """
    kept = settings.lookup_cache_dir() / "lookups.json"
    try:
        contents = _read(settings.event_lookup(), settings.process_lookup())
    except LookupInvalid as error:
        if not kept.exists():
            raise
        log.warning("Going on with the last good lookups, because %s", error)
        return _lookups(*json.loads(kept.read_text()))
    _keep(kept, json.dumps(contents))
    return _lookups(*contents)


def load_cached() -> Lookups:
    """Give what :func:`load_with_fallback` gives; the files are read again only when one of them has changed."""
    return _unchanged(*(_mark(file) for file in (settings.event_lookup(), settings.process_lookup())))


@lru_cache(maxsize=1)
def _unchanged(*marks: object) -> Lookups:
    return load_with_fallback()


def _mark(file: Path) -> tuple[object, ...]:
    try:
        found = file.stat()
    except OSError as error:
        return (file, error.errno)
    return (file, found.st_ino, found.st_size, found.st_mtime_ns)


def find_hive_uri(hive_conn_id: str) -> str | None:
    """Give the address behind the connection id of a process with a ``hive_uri``; None for any other id."""
    if not hive_conn_id.startswith(URI_PREFIX):
        return None
    process = load_with_fallback().processes.get(hive_conn_id.removeprefix(URI_PREFIX))
    return process.hive_uri.get_secret_value() if process and process.hive_uri else None


def _read(event_lookup: Path, process_lookup: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    events = _checked(event_lookup, "event_lookup")
    processes = _checked(process_lookup, "process_lookup")
    for name, fields in processes.items():
        if "hive_uri" in fields and not _is_address(fields["hive_uri"]):
            raise LookupInvalid(process_lookup, f"{name}.hive_uri", _ADDRESS)
    for key, name in rules.iter_process_names(events):
        if name not in processes:
            raise LookupInvalid(
                event_lookup, key, f"expected a process that {process_lookup} has, not {name!r}"
            )
    emits = {name: fields.get("emits", ()) for name, fields in processes.items()}
    if chain := rules.find_cycle(rules.parse_rules(events, event_lookup), emits):
        advice = f"expected no loop, found {' → '.join(chain)}: take one of its types out of an emits"
        raise LookupInvalid(process_lookup, f"{chain[1]}.emits", advice)
    return events, processes


def _lookups(events: dict[str, Any], processes: dict[str, Any]) -> Lookups:
    return Lookups(
        rules=rules.parse_rules(events, settings.event_lookup()),
        processes={name: Process(name=name, **fields) for name, fields in processes.items()},
    )


_ADDRESS = "expected mysql://user:password@host:port/database or sqlite:///file"


def _is_address(uri: str) -> bool:
    try:
        return bool(make_url(uri).database)
    except (ArgumentError, ValueError):
        return False


def _keep(kept: Path, text: str) -> None:
    """Keep a text, readable by this user alone; several processes may do so at once."""
    try:
        if kept.exists() and kept.read_text() == text:
            return
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, fresh = tempfile.mkstemp(dir=kept.parent)
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(fresh).replace(kept)
    except OSError as error:
        log.warning("The lookups cannot be kept for a time when they are broken: %s", error)


def _checked(file: Path, schema_name: str) -> dict[str, Any]:
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE_BYTES:
            raise LookupInvalid(file, "", f"expected a regular file of at most {MAX_FILE_BYTES} bytes")
        lookup = json.loads(file.read_text(), object_pairs_hook=lambda pairs: _without_doubles(pairs, file))
    except OSError as error:
        raise LookupInvalid(file, "", f"cannot be read: {error.strerror}") from None
    except RecursionError:
        raise LookupInvalid(file, "", "expected fewer levels of objects and arrays") from None
    except ValueError as error:
        raise LookupInvalid(file, "", f"expected JSON: {error}") from None
    schema = json.loads((SCHEMAS / f"{schema_name}.schema.json").read_text())
    wrong = jsonschema.Draft202012Validator(schema).iter_errors(lookup)
    if first := min(wrong, key=lambda error: list(map(str, error.absolute_path)), default=None):
        raise LookupInvalid(file, _key(first), _expectation(first))
    checked: dict[str, Any] = lookup
    return checked


def _without_doubles(pairs: list[tuple[str, Any]], file: Path) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if doubles := sorted({name for name in names if names.count(name) > 1}):
        raise LookupInvalid(file, doubles[0], "expected once, found twice")
    return dict(pairs)


def _key(error: jsonschema.ValidationError) -> str:
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    name = f".{error.instance}" if "propertyNames" in error.absolute_schema_path else ""
    return f"{steps}{name}".removeprefix(".")


def _expectation(error: jsonschema.ValidationError) -> str:
    """Say what a schema wanted, without the value where that may hold a password."""
    rule, wanted = error.validator, error.validator_value
    if rule == "oneOf":
        return "expected either hive_conn_id or hive_uri, and not both"
    if "hive_uri" in error.absolute_path:
        return _ADDRESS
    if rule == "pattern":
        return f"expected a text like {wanted}, not {error.instance!r}"
    if rule == "minProperties":
        return "expected at least one entry"
    if rule == "exclusiveMinimum":
        return f"expected a number above {wanted}, not {error.instance!r}"
    if rule == "type":
        kinds = wanted if isinstance(wanted, str) else " or ".join(cast("list[str]", wanted))
        return f"expected {kinds}, not {type(error.instance).__name__}"
    return str(error.message)
