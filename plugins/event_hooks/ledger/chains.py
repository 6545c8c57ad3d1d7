"""Chains of events: the chain that a new event joins, as far as the ledger can confirm it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select, tuple_

from event_hooks.ledger.database import build_row_reader, read_matching
from event_hooks.ledger.tables import event, follow_up

if TYPE_CHECKING:
    from event_hooks.ledger.records import NewEvent

log = logging.getLogger(__name__)


def find_correlation_ids(connection: Connection, new_events: Iterable[NewEvent]) -> dict[str, str]:
    """
    Return the chain that each event joins: ``{event key: correlation id}``.

    Each user can send an event with ``follows``. An event joins a chain that began in this ledger only if the
    ledger has the same event as a follow-up event. A chain that began in another system is not checked. An
    event that joins no chain is the first of its own.
    """
    new_events = list(new_events)
    joined = {item.key: item.correlation_id for item in new_events if item.correlation_id}
    claims = {item.key: item for item in new_events if item.payload.get("follows") and item.key not in joined}
    if not claims:
        return joined
    own_runs = _find_runs(connection, map(_first_run, claims.values()))
    confirmed = _load_follow_ups(connection, claims.values())
    for key, item in claims.items():
        is_confirmed = _normalize(item.payload) in confirmed
        if is_confirmed or _first_run(item) not in own_runs:
            joined[key] = _correlation_id(item)
        else:
            chain = _correlation_id(item)
            log.warning(
                "An event %r follows none of this ledger, and does not join %r", item.type[:100], chain
            )
    return joined


def _correlation_id(new_event: NewEvent) -> str:
    return str(new_event.payload["follows"]["correlation_id"])


def _first_run(new_event: NewEvent) -> str:
    """Return the run of the first event of the chain."""
    return _correlation_id(new_event).rpartition("/")[0]


def _find_runs(connection: Connection, run_ids: Iterable[str]) -> set[str]:
    """Return the ids of the runs of which the ledger has events."""
    rows = read_matching(
        build_row_reader(connection), select(event.c.run_id).distinct(), event.c.run_id, sorted(set(run_ids))
    )
    return {row.run_id for row in rows}


def _load_follow_ups(connection: Connection, claims: Iterable[NewEvent]) -> set[str]:
    """Return the payloads of the follow-up events of the events that these events name as their origin."""
    read_rows, origins = build_row_reader(connection), {_parse_origin(item) for item in claims} - {None}
    place = tuple_(event.c.run_id, event.c.position)
    event_ids = [row.id for row in read_matching(read_rows, select(event.c.id), place, list(origins))]
    rows = read_matching(read_rows, select(follow_up.c.payload), follow_up.c.event_id, event_ids)
    return {_normalize(json.loads(row.payload)) for row in rows}


def _parse_origin(new_event: NewEvent) -> tuple[str, int] | None:
    """Return run and position of a causation id; ``None`` if it is not one of event hooks."""
    match = re.fullmatch("(.+)/([0-9]{1,6})/[^/]+", str(new_event.payload["follows"]["causation_id"]))
    return (match[1], int(match[2])) if match else None


def _normalize(payload: Mapping[str, Any]) -> str:
    return json.dumps(payload, sort_keys=True)
