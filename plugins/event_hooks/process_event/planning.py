"""Validate the events of a run, and select the processes that react to them; nothing is stored."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from event_hooks.events.models import build_token
from event_hooks.exceptions import EventInvalid, combine_invalid
from event_hooks.hive import perl
from event_hooks.ledger.records import EventRequest, OnceClaim

if TYPE_CHECKING:
    from event_hooks.events.lookups import Lookups
    from event_hooks.events.models import EventBatch
    from event_hooks.field_path import FieldPath
    from event_hooks.ledger.records import NewEvent, OnceClaims, ProcessStatus

MAX_JOINED_LEVELS = perl.MAX_DEPTH - 1
"""Maximum nesting of the event of a join: the input of a job has it in its field ``event``."""

MAX_LEVELS = MAX_JOINED_LEVELS - 3
"""Maximum nesting of another event: that of a join has it in a list, in an object, in its ``joined``."""


def submit_task_id(process: str) -> str:
    """Return the id of the task that submits a process's jobs; it is part of each job's input."""
    return f"{process}.submit"


def plan_batch(batch: EventBatch, lookups: Lookups) -> dict[str, list[int]]:
    """
    Check that events can be processed, and select the events of each process.

    :return: ``{process: [position of an event, from 0, …]}``, only processes with an event.
    :raises EventInvalid: names the invalid fields and the expected values.
    """
    plan: dict[str, list[int]] = {}
    errors: list[EventInvalid] = []
    for position, event in enumerate(batch.events):
        field, payload = batch.find_field(position), event.payload()
        try:
            for process in lookups.select_names(event, field):
                plan.setdefault(process, []).append(position)
            check_value(payload, field, MAX_JOINED_LEVELS if event.joined else MAX_LEVELS)
        except EventInvalid as error:
            errors.append(error)
    if errors:
        raise combine_invalid(errors)
    return plan


def group_by_hive(statuses: Iterable[ProcessStatus]) -> dict[tuple[str, str], list[ProcessStatus]]:
    """Return the processes of events by the place of their jobs: ``{(hive, analysis): statuses}``."""
    groups: dict[tuple[str, str], list[ProcessStatus]] = {}
    for status in statuses:
        groups.setdefault((status.hive, status.analysis), []).append(status)
    return groups


def build_tokens(run_id: str, statuses: Iterable[ProcessStatus]) -> dict[int, str | None]:
    """Return the token that the input of each job contains, for statuses with a job: ``{job id: token}``."""
    return {
        status.job_id: build_token(run_id, status.position, submit_task_id(status.process), status.rerun)
        for status in statuses
        if status.job_id is not None
    }


def exclude_positions(plan: Mapping[str, list[int]], excluded: Collection[int]) -> dict[str, list[int]]:
    """Return a plan without some events, and without processes that have no other event."""
    remaining = {
        process: [position for position in positions if position not in excluded]
        for process, positions in plan.items()
    }
    return {process: positions for process, positions in remaining.items() if positions}


def build_claims(
    events: Mapping[int, Mapping[str, Any]], plan: Mapping[str, Sequence[int]], lookups: Lookups
) -> OnceClaims:
    """
    Return the claims of planned processes with ``once_per``: these run only once for the same values.

    :param events: ``{position: payload}``.
    :param plan: ``{process: positions}``.
    """
    return {
        (position, process): _build_claim(events[position], fields)
        for process, fields in lookups.rules.once_per.items()
        for position in plan.get(process, ())
    }


def build_request(
    batch: EventBatch, new_events: Sequence[NewEvent], lookups: Lookups, conflict_key: str | None = None
) -> EventRequest:
    """
    Return the request that stores events with their processes.

    :param new_events: of the events of the batch.
    :param conflict_key: as in :class:`event_hooks.ledger.records.EventRequest`.
    :raises EventInvalid: as :func:`plan_batch`.
    """
    planned = plan_batch(batch, lookups)
    processes: list[list[tuple[str, str, str]]] = [[] for _ in batch.events]
    for name, positions in planned.items():
        for position in positions:
            processes[position].append(lookups.find_place(name))
    payloads = {position: new_event.payload for position, new_event in enumerate(new_events)}
    return EventRequest(new_events, processes, build_claims(payloads, planned, lookups), conflict_key)


def _build_claim(payload: Mapping[str, Any], fields: Sequence[str]) -> OnceClaim:
    return OnceClaim({name: payload.get(name) for name in fields}, bool(payload.get("force")))


def check_value(value: object, field: FieldPath, levels: int = MAX_LEVELS) -> None:
    """
    Check that the ledger and Airflow can store an event, and that its jobs can receive it.

    No other code decides this. It also holds for an object with some of the event's fields.

    :param levels: maximum nesting.
    :raises EventInvalid: names the invalid field and the expected value.
    """
    _check_is_preserved(value, field, levels)
    perl.dumps(value, field)


def _check_is_preserved(value: object, field: FieldPath, levels: int) -> None:
    """
    Raise if Airflow would change a value: it stores ``conf`` as JSONB, and sends it to tasks as msgpack.

    JSONB rejects NUL, and returns 1e16 as an integer; msgpack is limited to 64 bits.

    :param levels: maximum nesting in the value.
    """
    match value:
        case _ if levels < 0:
            raise EventInvalid(field, "expected fewer levels of objects and arrays")
        case dict():
            for key, item in value.items():
                _check_is_preserved(key, field, levels)
                _check_is_preserved(item, field.child(key), levels - 1)
        case list():
            for index, item in enumerate(value):
                _check_is_preserved(item, field.child(index), levels - 1)
        case str() if "\0" in value:
            raise EventInvalid(field, "expected text without the character NUL")
        case int() if not -(2**63) <= value < 2**64:
            message = "expected a whole number of 64 bits at most; send it as text instead"
            raise EventInvalid(field, message)
        case float() if value.is_integer() and (abs(value) >= 1e16 or math.copysign(1, value) < 0 == value):
            message = f"expected a number that JSON preserves, not {value!r}; send it as text instead"
            raise EventInvalid(field, message)
