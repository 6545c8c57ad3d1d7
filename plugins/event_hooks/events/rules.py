"""What the event lookup says of a process beyond its name: what it waits for, and what it does only once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from event_hooks.exceptions import LookupInvalid

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class JoinRule(BaseModel):
    """A process that runs once per genome, when all of several events have come."""

    model_config = ConfigDict(frozen=True)

    process: str
    after: tuple[str, ...]
    """Types of the events."""

    within: float
    """Seconds from the first of them."""

    then: Literal["run", "alert"]
    """What to do when the time is over: run with what came, or report it as WARN."""


class EventRules(BaseModel):
    """The event lookup, read."""

    model_config = ConfigDict(frozen=True)

    process_names: dict[str, tuple[str, ...]]
    """Processes that react to an event of a type by itself."""

    joins: dict[str, JoinRule]
    """Processes that wait for several."""

    once_per: dict[str, tuple[str, ...]]
    """Fields of the event for whose values a process runs no second time."""

    def processes_for(self, event_type: str) -> list[str]:
        """Give the processes that have to do with a type of event, by itself or with others."""
        joined = [name for name, join in self.joins.items() if event_type in join.after]
        return [*self.process_names.get(event_type, ()), *joined]


def parse_rules(event_lookup: Mapping[str, Sequence[Any]], file: object) -> EventRules:
    """
    Read an event lookup that fits its schema.

    :raises LookupInvalid: two entries contradict each other, or one waits for a type that is not there.
    """
    names: dict[str, list[str]] = {event_type: [] for event_type in event_lookup}
    joins: dict[str, JoinRule] = {}
    once_per: dict[str, tuple[str, ...]] = {}
    for event_type, key, entry in _entries(event_lookup):
        name, once = entry["process"], tuple(entry.get("once_per", ()))
        if once_per.setdefault(name, once) != once:
            raise LookupInvalid(file, key, f"expected the same once_per wherever {name!r} stands")
        if "after" not in entry:
            names[event_type].append(name)
            continue
        _check_types(event_type, entry["after"], event_lookup, file, key)
        fields = {"after": entry["after"], "within": _seconds(entry["within"]), "then": entry["then"]}
        join = JoinRule(process=name, **fields)
        if joins.setdefault(name, join) != join:
            raise LookupInvalid(
                file, key, f"expected the same after, within and then wherever {name!r} waits"
            )
    for name, join in joins.items():
        for event_type in join.after:
            if name in names[event_type]:
                wrong = f"expected {name!r} either by itself, or after {', '.join(join.after)}; found both"
                raise LookupInvalid(file, event_type, wrong)
    return EventRules(
        process_names=names, joins=joins, once_per={name: once for name, once in once_per.items() if once}
    )


def iter_process_names(event_lookup: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, str]]:
    """Give each process that an event lookup names, with the key of the place: ``(key, process)``."""
    return ((key, entry["process"]) for _, key, entry in _entries(event_lookup))


def find_cycle(rules: EventRules, emits: Mapping[str, Sequence[str]]) -> list[str]:
    """
    Give a chain of events that ends where it begins: type, process, emitted type, …; empty if there is none.

    :param emits: ``{process: types that follow}``.
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


def _entries(event_lookup: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for event_type, listed in event_lookup.items():
        for position, entry in enumerate(listed):
            key = f"{event_type}[{position}]"
            yield event_type, key, {"process": entry} if isinstance(entry, str) else entry


def _check_types(
    event_type: str, after: Sequence[str], event_lookup: Mapping[str, Any], file: object, key: str
) -> None:
    if event_type not in after:
        raise LookupInvalid(
            file, f"{key}.after", f"expected {event_type!r} among them, under which it stands"
        )
    for position, other in enumerate(after):
        if other not in event_lookup:
            known = ", ".join(sorted(event_lookup))
            raise LookupInvalid(file, f"{key}.after[{position}]", f"expected one of {known}, not {other!r}")


def _seconds(text: str) -> float:
    return float(text[:-1]) * _SECONDS[text[-1]]
