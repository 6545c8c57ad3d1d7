"""From what arrived to what will be done, before anything is done."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from event_hooks.events import EventBatch
from event_hooks.hive import perl

if TYPE_CHECKING:
    from event_hooks.lookups import Lookups


def submit_task(process: str) -> str:
    """Give the task that submits a process's jobs: it is part of each job's input."""
    return f"{process}.submit"


def without(planned: Mapping[str, list[int]], known: Collection[int]) -> dict[str, list[int]]:
    """Leave events out of a plan, and processes that have none left."""
    left = {process: [at for at in positions if at not in known] for process, positions in planned.items()}
    return {process: positions for process, positions in left.items() if positions}


def plan(conf: object, lookups: Lookups) -> dict[str, list[int]]:
    """
    Check a run's events to the last field, and give each process the events that it reacts to.

    :param conf: of the run: one event's fields, or ``{"events": [{…}, …]}``.
    :return: ``{process: [position of an event, from 0, …]}``, without the processes that have none.
    :raises EventInvalid: names the first wrong field and what was expected.
    """
    return plan_batch(EventBatch.from_conf(conf), lookups)


def plan_batch(batch: EventBatch, lookups: Lookups) -> dict[str, list[int]]:
    """Do what :func:`plan` does with events that were read already."""
    planned = lookups.plan(batch)
    for position, event in enumerate(batch.events):
        perl.dumps(event.payload(), f"events[{position}]" if len(batch.events) > 1 else "")
    return planned
