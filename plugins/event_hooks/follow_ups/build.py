"""Build the follow-up events of a success."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from event_hooks.events.models import build_causation, parse_event, reject_internal_fields
from event_hooks.exceptions import EventInvalid
from event_hooks.field_path import FieldPath
from event_hooks.ledger.records import FollowUpEvent

NOT_INHERITED_FIELDS = ("type", "event_id", "force", "reason", "follows", "joined")
"""Fields that a follow-up event does not inherit; the other fields describe the same genome."""

RETURNED_EVENTS_KEY = "events"
"""The key of a job's result that holds the events that it returns."""


def build_follow_ups(
    cause: Mapping[str, Any],
    run_id: str,
    position: int,
    event_id: int,
    process: str,
    result: Any,
    emits: Sequence[str],
    correlation_id: str | None = None,
) -> list[FollowUpEvent]:
    """
    Build the follow-up events of a success: events that the lookup names, then events that the job returned.

    The same arguments return the same events, with the same ``event_id``.

    :param cause: payload of the event that the process succeeded for.
    :param position: of that event in the run.
    :param event_id: id of that event in the ledger.
    :param result: of the pipeline; ``{"events": [{"type": …, …}, …]}`` if it returns events.
    :param emits: types that the lookup names.
    :param correlation_id: the first event of the chain of that event; ``None`` if it is the first itself.
    :return: invalid events have an ``error``.
    """
    inherited = {name: value for name, value in cause.items() if name not in NOT_INHERITED_FIELDS}
    events: list[Any] = [{**inherited, "type": event_type} for event_type in emits]
    genome = {"genome": cause["genome"]} if "genome" in cause else {}
    for fields in _list_returned(result):
        events.append({**genome, **fields} if isinstance(fields, dict) else fields)
    follows = build_causation(cause, run_id, position, process, correlation_id)
    return [
        FollowUpEvent(event_id, process, index, *_build_payload(fields, follows, index, len(emits)))
        for index, fields in enumerate(events)
    ]


def _list_returned(result: Any) -> list[Any]:
    """Return the events of a job's result, which may be invalid; one event need not be in a list."""
    returned = result.get(RETURNED_EVENTS_KEY) if isinstance(result, dict) else None
    if isinstance(returned, list):
        return returned
    return [returned] if returned else []


def _build_payload(
    fields: Any, follows: Mapping[str, Any], index: int, emitted_count: int
) -> tuple[dict[str, Any], str | None]:
    """
    Return the payload of an event, with an id that only depends on its cause and index, and its error.

    :param emitted_count: number of events before the returned ones.
    """
    identity = f"{follows['causation_id']}/{index}".encode("utf-8", "replace")
    own_fields = {"event_id": hashlib.sha256(identity).hexdigest()[:32], "follows": dict(follows)}
    is_object = isinstance(fields, dict)
    payload = {**fields, **own_fields} if is_object else {"returned": fields, **own_fields}
    path = FieldPath("event")
    if index >= emitted_count:
        path = FieldPath(RETURNED_EVENTS_KEY).child(index - emitted_count)
    try:
        event = parse_event(payload if is_object else fields, path)
        reject_internal_fields(event, path)
    except EventInvalid as error:
        return payload, str(error)
    return event.payload(), None
