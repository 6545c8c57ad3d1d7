"""Plan the events of a period again with other lookups, and return the differences; nothing is written."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from more_itertools import sliced
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from event_hooks.api.times import EXPECTED_TIME, parse_time
from event_hooks.events import lookups
from event_hooks.exceptions import EventInvalid, combine_invalid
from event_hooks.field_path import FieldPath
from event_hooks.ledger import history
from event_hooks.ledger.clock import load_time
from event_hooks.process_event.plan_comparison import PlanComparison

if TYPE_CHECKING:
    from collections.abc import Callable

    from event_hooks.ledger.database import Ledger
    from event_hooks.process_event.plan_comparison import Difference, Reaction

MAX_EVENTS = 200_000
"""Maximum number of events of a comparison."""

BATCH_SIZE = 200
"""Events that are in memory at the same time; the payload of each may have a megabyte."""


class ComparisonRequest(BaseModel):
    """A period, and the lookups to compare with the present ones; at least one is required."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    since: str = Field(description=f"Beginning of the period: {EXPECTED_TIME}.")
    until: str | None = Field(None, description="End of the period, in the same form; null for now.")
    event_lookup: dict[str, Any] | None = Field(
        None, description="Content of the other event lookup; null for the present one."
    )
    process_lookup: dict[str, Any] | None = Field(
        None, repr=False, description="Content of the other process lookup; null for the present one."
    )


_EXPECTED_KINDS = {
    "since": EXPECTED_TIME,
    "until": f"{EXPECTED_TIME}, or null",
    "event_lookup": "an object or null",
    "process_lookup": "an object or null",
}


@dataclass(frozen=True)
class Period:
    """The time from ``since`` on and before ``until``, by the clock of the ledger."""

    since: datetime
    until: datetime


def parse_request(body: object) -> ComparisonRequest:
    """
    Parse the JSON value of a request's body.

    :raises EventInvalid: names the invalid fields and the expected values.
    """
    if not isinstance(body, dict):
        raise EventInvalid(FieldPath("body"), f"expected an object with {', '.join(_EXPECTED_KINDS)}")
    try:
        request = ComparisonRequest.model_validate(body)
    except ValidationError as error:
        names = dict.fromkeys(str(item["loc"][0]) for item in error.errors(include_input=False))
        raise combine_invalid([_build_error(name, is_missing=name not in body) for name in names]) from None
    if request.event_lookup is None and request.process_lookup is None:
        raise EventInvalid("event_lookup", "expected an object, here or in process_lookup: both are missing")
    return request


def _build_error(name: str, *, is_missing: bool) -> EventInvalid:
    if name not in _EXPECTED_KINDS:
        return EventInvalid(name, f"unknown field; expected one of {', '.join(_EXPECTED_KINDS)}")
    missing = ", but it is missing" if is_missing else ""
    return EventInvalid(name, f"expected {_EXPECTED_KINDS[name]}{missing}")


async def compare_period(
    request: ComparisonRequest, open_ledger: Callable[[], Ledger], lock: asyncio.Lock
) -> dict[str, Any]:
    """
    Compare the plans of the events of a period under the present and the other lookups.

    The event loop serves other requests between the batches. A cancelled comparison ends after its batch.

    :param open_ledger: returns the ledger.
    :param lock: of this process: comparisons run one after the other.
    :return: the fields of :class:`event_hooks.api.models.PlanComparison`.
    :raises EventInvalid: names the invalid field and the expected value.
    :raises LedgerUnreachable: the events cannot be read.
    :raises LookupInvalid: the present lookups cannot be read.
    """
    async with lock:
        ledger = await asyncio.to_thread(open_ledger)
        period = _parse_period(request, await asyncio.to_thread(load_time, ledger))
        loaded = await asyncio.to_thread(
            lookups.load_with_replacements, request.event_lookup, request.process_lookup
        )
        event_ids = await asyncio.to_thread(_list_ids, ledger, period)
        comparison = PlanComparison(*loaded)
        for batch in sliced(event_ids, BATCH_SIZE):
            await asyncio.to_thread(_add_batch, comparison, ledger, batch)
        return _format_comparison(comparison, period)


def _parse_period(request: ComparisonRequest, now: datetime) -> Period:
    since = parse_time("since", request.since, now)
    until = now if request.until is None else parse_time("until", request.until, now)
    if since >= until:
        expected = f"expected a time before {until.isoformat()}, the end of the period"
        raise EventInvalid("since", f"{expected}, not {since.isoformat()}")
    return Period(since, until)


def _list_ids(ledger: Ledger, period: Period) -> list[int]:
    event_ids = history.list_received_ids(ledger, period.since, period.until, MAX_EVENTS + 1)
    if len(event_ids) > MAX_EVENTS:
        raise EventInvalid("since", f"expected a period with at most {MAX_EVENTS:,} events, found more")
    return event_ids


def _add_batch(comparison: PlanComparison, ledger: Ledger, event_ids: list[int]) -> None:
    comparison.add(history.load_received(ledger, event_ids))


def _format_comparison(comparison: PlanComparison, period: Period) -> dict[str, Any]:
    differences = comparison.find_differences()
    return {
        "since": period.since.isoformat(),
        "until": period.until.isoformat(),
        "events": comparison.events,
        "excluded": comparison.excluded,
        "unchanged": comparison.unchanged,
        "differences": [_format_difference(*pair, counts) for pair, counts in differences.items()],
        "rejected": [
            {"type": event_type, **vars(counts)} for event_type, counts in sorted(comparison.rejected.items())
        ],
    }


def _format_difference(event_type: str, process: str, counts: Difference) -> dict[str, Any]:
    return {
        "type": event_type,
        "process": process,
        "now": counts.now,
        "then": counts.then,
        "place_now": _format_place(counts.now_reaction),
        "place_then": _format_place(counts.then_reaction),
        "is_moved": counts.is_moved,
        "join_now": _format_join(counts.now_reaction),
        "join_then": _format_join(counts.then_reaction),
        "event_ids": counts.event_ids,
    }


def _format_place(reaction: Reaction | None) -> str | None:
    return f"{reaction.hive}/{reaction.analysis}" if reaction else None


def _format_join(reaction: Reaction | None) -> dict[str, Any] | None:
    return reaction.join.model_dump(mode="json", exclude={"process"}) if reaction and reaction.join else None
