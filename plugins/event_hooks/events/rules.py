"""The rules of the event lookup: joins, and processes that run once per value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from event_hooks.exceptions import LookupInvalid

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

_DURATION = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?[smhd]")
"""As in the schema of the event lookup."""


class JoinRule(BaseModel):
    """A process that runs once per genome, after events of several types have arrived."""

    model_config = ConfigDict(frozen=True)

    process: str
    after: tuple[str, ...]
    """Types of the events."""

    within: float
    """Timeout in seconds, from the arrival of the first event."""

    then: Literal["run", "alert"]
    """Action after the timeout: run with the events that arrived, or send a WARN report."""


class EventRules(BaseModel):
    """The parsed event lookup."""

    model_config = ConfigDict(frozen=True)

    process_names: dict[str, tuple[str, ...]]
    """``{event type: processes that react to one event of this type}``."""

    joins: dict[str, JoinRule]
    """``{process: rule}`` of the processes that wait for several events."""

    once_per: dict[str, tuple[str, ...]]
    """``{process: fields of the event}``: the process runs once for the same values of these fields."""

    def processes_for(self, event_type: str) -> list[str]:
        """Return the processes that react to a type of event, by itself or in a join."""
        joined = [name for name, join in self.joins.items() if event_type in join.after]
        return [*self.process_names.get(event_type, ()), *joined]


def parse_rules(event_lookup: Mapping[str, Sequence[Any]], file: object) -> EventRules:
    """
    Parse an event lookup that matches its schema.

    :param file: name of the file in error messages.
    :raises LookupInvalid: two entries contradict each other, or a join waits for an unknown type.
    """
    names: dict[str, list[str]] = {event_type: [] for event_type in event_lookup}
    joins: dict[str, JoinRule] = {}
    once_per: dict[str, tuple[str, ...]] = {}
    for event_type, key, entry in _iter_entries(event_lookup):
        name, fields = entry["process"], tuple(entry.get("once_per", ()))
        if once_per.setdefault(name, fields) != fields:
            raise LookupInvalid(file, key, f"expected the same once_per in all entries of {name!r}")
        if "after" not in entry:
            names[event_type].append(name)
            continue
        _check_types(event_type, entry["after"], event_lookup, file, key)
        join = _parse_join(entry)
        if joins.setdefault(name, join) != join:
            raise LookupInvalid(
                file, key, f"expected the same after, within and then in all entries of {name!r}"
            )
    _check_either_alone_or_joined(names, joins, file)
    return EventRules(
        process_names=names,
        joins=joins,
        once_per={name: fields for name, fields in once_per.items() if fields},
    )


def iter_process_names(event_lookup: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, str]]:
    """Yield each process name of an event lookup with its key in the file: ``(key, process)``."""
    return ((key, entry["process"]) for _, key, entry in _iter_entries(event_lookup))


def parse_seconds(text: str) -> float:
    """
    Return the seconds of a duration, such as ``90s``, ``30m``, ``6h`` and ``2d``.

    :raises ValueError: the text is no duration.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"expected a duration such as 90s, 30m, 6h or 2d, not {text!r}")
    return float(text[:-1]) * _UNIT_SECONDS[text[-1]]


def find_cycle(rules: EventRules, emits: Mapping[str, Sequence[str]]) -> list[str]:
    """
    Return a cycle of follow-up events, as type, process, emitted type, …, first type; [] without a cycle.

    :param emits: ``{process: types of its follow-up events}``.
    """
    graph: TopologicalSorter[tuple[str, str]] = TopologicalSorter()
    for event_type in rules.process_names:
        for name in rules.processes_for(event_type):
            graph.add(("process", name), ("type", event_type))
    for name, event_types in emits.items():
        for event_type in event_types:
            graph.add(("type", event_type), ("process", name))
    try:
        graph.prepare()
    except CycleError as error:
        nodes = error.args[1][:-1]
        first = nodes.index(min(node for node in nodes if node[0] == "type"))
        return [name for _, name in (*nodes[first:], *nodes[:first], nodes[first])]
    return []


def _iter_entries(event_lookup: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield ``(event type, key in the file, entry)``; an entry that is a name becomes an object."""
    for event_type, entries in event_lookup.items():
        for position, entry in enumerate(entries):
            key = f"{event_type}[{position}]"
            yield event_type, key, {"process": entry} if isinstance(entry, str) else entry


def _check_types(
    event_type: str, after: Sequence[str], event_lookup: Mapping[str, Any], file: object, key: str
) -> None:
    if event_type not in after:
        expected = f"expected {event_type!r} among them, the type of this entry"
        raise LookupInvalid(file, f"{key}.after", expected)
    for position, name in enumerate(after):
        if name not in event_lookup:
            expected = f"expected one of {', '.join(sorted(event_lookup))}, not {name!r}"
            raise LookupInvalid(file, f"{key}.after[{position}]", expected)


def _parse_join(entry: Mapping[str, Any]) -> JoinRule:
    return JoinRule(
        process=entry["process"],
        after=tuple(entry["after"]),
        within=parse_seconds(entry["within"]),
        then=entry["then"],
    )


def _check_either_alone_or_joined(
    names: Mapping[str, Sequence[str]], joins: Mapping[str, JoinRule], file: object
) -> None:
    for name, join in joins.items():
        for event_type in join.after:
            if name in names[event_type]:
                types = ", ".join(join.after)
                raise LookupInvalid(
                    file, event_type, f"expected {name!r} either by itself, or after {types}; found both"
                )
