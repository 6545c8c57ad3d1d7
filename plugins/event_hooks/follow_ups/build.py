"""The events that follow from the success of a process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from event_hooks.events.models import EventBatch, build_causation
from event_hooks.exceptions import EventInvalid
from event_hooks.ledger.records import FollowUpEvent

OF_THE_CAUSE = ("type", "event_id", "force", "reason", "follows", "joined")
"""Fields that an event has for itself; the others are given on, for they tell of the same genome."""

RETURNED = "events"
"""Where a job's result has the events that it returns."""


def build_follow_ups(
    cause: Mapping[str, Any],
    run_id: str,
    position: int,
    event_id: int,
    process: str,
    result: Any,
    emits: Sequence[str],
) -> list[FollowUpEvent]:
    """
    Make the events that follow from a success: those that the lookup names, then those that the job returned.

    The same arguments give the same events, with the same ``event_id``.

    :param cause: payload of the event that the process has done; it came as this position of this run.
    :param event_id: of that event, in the ledger.
    :param result: what the pipeline wrote; ``{"events": [{"type": …, …}, …]}`` if it returns some.
    :param emits: types that the lookup names.
    :return: each with an error if it cannot be handed on.
    """
    subject = {name: value for name, value in cause.items() if name not in OF_THE_CAUSE}
    wanted: list[Any] = [{**subject, "type": name} for name in emits]
    returned = result.get(RETURNED) if isinstance(result, dict) else None
    genome = {"genome": cause["genome"]} if "genome" in cause else {}
    for fields in returned if isinstance(returned, list) else [returned] if returned else []:
        wanted.append({**genome, **fields} if isinstance(fields, dict) else fields)
    follows = build_causation(cause, run_id, position, process)
    return [
        FollowUpEvent(event_id, process, at, *_checked(fields, follows, at, len(emits)))
        for at, fields in enumerate(wanted)
    ]


def _checked(
    fields: Any, follows: Mapping[str, Any], at: int, emitted: int
) -> tuple[dict[str, Any], str | None]:
    """Give an event the id and origin that it has whenever it is made again; tell what is wrong with it."""
    identity = f"{follows['causation_id']}/{at}".encode("utf-8", "replace")
    own = {"event_id": hashlib.sha256(identity).hexdigest()[:32], "follows": dict(follows)}
    payload = {**fields, **own} if isinstance(fields, dict) else {"returned": fields, **own}
    try:
        batch = EventBatch.from_conf({"events": [payload if isinstance(fields, dict) else fields]})
        batch.reject_internal_fields()
    except EventInvalid as error:
        place = "event" if at < emitted else f"{RETURNED}[{at - emitted}]"
        wrong = str(error)
        return payload, wrong.replace("events[0]", place, 1) if "events[0]" in wrong else f"{place}.{wrong}"
    return payload, None
