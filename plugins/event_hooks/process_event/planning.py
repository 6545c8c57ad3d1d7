"""From what arrived to what will be done, before anything is done."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from event_hooks.events.models import EventBatch
from event_hooks.exceptions import EventInvalid
from event_hooks.hive import perl
from event_hooks.ledger.records import OnceClaim

if TYPE_CHECKING:
    from event_hooks.events.lookups import Lookups
    from event_hooks.ledger.records import OnceClaims


def submit_task(process: str) -> str:
    """Give the task that submits a process's jobs: it is part of each job's input."""
    return f"{process}.submit"


def without(planned: Mapping[str, list[int]], known: Collection[int]) -> dict[str, list[int]]:
    """Leave events out of a plan, and processes that have none left."""
    left = {process: [at for at in positions if at not in known] for process, positions in planned.items()}
    return {process: positions for process, positions in left.items() if positions}


def plan(
    conf: object, lookups: Lookups, noted: Mapping[int, Sequence[str]] | None = None
) -> dict[str, list[int]]:
    """
    Check a run's events to the last field, and give each process the events that it reacts to.

    :param conf: of the run: one event's fields, or ``{"events": [{…}, …]}``.
    :param noted: as :meth:`event_hooks.events.lookups.Lookups.plan` takes it.
    :return: ``{process: [position of an event, from 0, …]}``, without the processes that have none.
    :raises EventInvalid: names the first wrong field and what was expected.
    """
    return plan_batch(EventBatch.from_conf(conf), lookups, noted)


def plan_batch(
    batch: EventBatch, lookups: Lookups, noted: Mapping[int, Sequence[str]] | None = None
) -> dict[str, list[int]]:
    """Do what :func:`plan` does with events that were read already."""
    planned = lookups.plan(batch, noted)
    for position, event in enumerate(batch.events):
        where, payload = f"events[{position}]" if len(batch.events) > 1 else "", event.payload()
        _check_keeps(payload, where)
        perl.dumps(payload, where)
    return planned


def claims(
    events: Mapping[int, Mapping[str, Any]], plan: Mapping[str, Sequence[int]], lookups: Lookups
) -> OnceClaims:
    """
    Give what is done once for some values, of what is planned.

    :param events: ``{position: payload}``.
    """
    return {
        (at, process): OnceClaim(
            {name: events[at].get(name) for name in fields}, bool(events[at].get("force"))
        )
        for process, fields in lookups.rules.once_per.items()
        for at in plan.get(process, ())
    }


def _check_keeps(value: object, field: str) -> None:
    """
    See that a value comes back from Airflow as it went in: ``conf`` is JSONB, and tasks get it as msgpack.

    JSONB refuses NUL, and gives 1e16 back as the integer that it is; msgpack ends at 64 bits.
    """
    match value:
        case dict():
            for key, item in value.items():
                _check_keeps(key, field)
                _check_keeps(item, f"{field}.{key}" if field else str(key))
        case list():
            for at, item in enumerate(value):
                _check_keeps(item, f"{field}[{at}]")
        case str() if "\0" in value:
            raise EventInvalid(field or "event", "expected text without the character NUL")
        case int() if not -(2**63) <= value < 2**64:
            raise EventInvalid(field, "expected a whole number of 64 bits at most; else give it as text")
        case float() if value.is_integer() and (abs(value) >= 1e16 or math.copysign(1, value) < 0 == value):
            raise EventInvalid(field, f"expected a number that JSON keeps, not {value!r}: give it as text")
