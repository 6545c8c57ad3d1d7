"""What is done once for the same values: which event has it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from more_itertools import sliced
from sqlalchemy import Connection, and_, delete, or_, select, update

from event_hooks.ledger.database import CHUNK, Reader, insert_missing, reader_of
from event_hooks.ledger.records import BAD, OnceClaim, ProcessStatus, State
from event_hooks.ledger.tables import event_process, once_claim

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger

Wanted = Mapping[tuple[int, str], OnceClaim]
"""``{(event id, process): claim}``."""

FORGOTTEN = 0
"""Stands for an event that the ledger has forgotten."""


def claim(connection: Connection, wanted: Wanted) -> dict[tuple[int, str], int]:
    """
    Let events have what is done once, as far as no other has it.

    Who failed, or was stopped, has it no more. Others who claim the same wait for the transaction to end.

    :return: what another event has: ``{(event id, process): that event's id}``.
    """
    rows = {
        (process, one.subject): {
            "process": process,
            "values_digest": one.subject,
            "claimed_values": json.dumps(one.values),
            "event_id": event_id,
        }
        for (event_id, process), one in reversed(list(wanted.items()))  # of equal ones the first
    }
    ordered = [rows[key] for key in sorted(rows)]  # all in one order, so that two do not lock each other
    insert_missing(connection, once_claim, ordered)
    having: dict[tuple[str, str], int | None] = {}
    for some in sliced(list(rows), CHUNK):
        mine = or_(
            *(
                and_(once_claim.c.process == name, once_claim.c.values_digest == subject)
                for name, subject in some
            )
        )
        found = (
            select(once_claim)
            .where(mine)
            .order_by(once_claim.c.process, once_claim.c.values_digest)
            .with_for_update()
        )
        having |= {(row.process, row.values_digest): row.event_id for row in connection.execute(found)}
    failed = _failed(
        reader_of(connection), {(name, holder) for (name, _), holder in having.items() if holder}
    )
    taken = {}
    for (event_id, process), one in wanted.items():
        key = process, one.subject
        holder = having[key]
        if holder == event_id:
            continue
        if one.is_forced or (process, holder) in failed:
            is_it = (once_claim.c.process == process) & (once_claim.c.values_digest == one.subject)
            connection.execute(update(once_claim).where(is_it).values(event_id=event_id))
            having[key] = event_id
        else:
            taken[event_id, process] = holder or FORGOTTEN
    return taken


def add_planned(
    connection: Connection, planned: Sequence[ProcessStatus], claims: Wanted
) -> dict[tuple[int, str], State]:
    """
    Note what will be done for events that have nothing noted yet.

    :return: what each (event id, process) has come to by that: planned, or skipped.
    """
    mine = {(one.event_id, one.process) for one in planned}
    wanted = {key: one for key, one in claims.items() if key in mine}
    taken = claim(connection, wanted) if wanted else {}
    now = datetime.now(UTC)
    rows: list[dict[str, Any]] = [
        {
            "event_id": one.event_id,
            "process": one.process,
            "hive": one.hive,
            "analysis": one.analysis,
            "state": State.SKIPPED if holder is not None else State.PLANNED,
            "error": None if holder is None else why_skipped(one.process, wanted[key], holder),
            "finished_at": None if holder is None else now,
        }
        for one in planned
        for key in [(one.event_id, one.process)]
        for holder in [taken.get(key)]
    ]
    insert_missing(connection, event_process, rows)
    return {(row["event_id"], row["process"]): State(row["state"]) for row in rows}


def holders(ledger: Ledger, wanted: Wanted) -> dict[tuple[int, str], int]:
    """Tell what :func:`claim` would give, and change nothing; ids of events are the caller's own."""
    found: dict[tuple[str, str], int | None] = {}
    for some in sliced([(process, one.subject) for (_, process), one in wanted.items()], CHUNK):
        mine = or_(
            *(
                and_(once_claim.c.process == name, once_claim.c.values_digest == subject)
                for name, subject in some
            )
        )
        found |= {
            (row.process, row.values_digest): row.event_id
            for row in ledger.read(select(once_claim).where(mine))
        }
    asked = {(name, holder) for (name, _), holder in found.items() if holder}
    failed = _failed(ledger.read, asked)
    return {
        (event_id, process): found[process, one.subject] or FORGOTTEN
        for (event_id, process), one in wanted.items()
        if (process, one.subject) in found
        and not one.is_forced
        and (process, found[process, one.subject]) not in failed
    }


def why_skipped(process: str, claim: OnceClaim, holder: int) -> str:
    """Say why a process is not done for an event."""
    values = ", ".join(f"{name} {json.dumps(value)}" for name, value in claim.values.items())
    who = f"event {holder} has it" if holder else "it was done long ago"
    return (
        f"{process} is done once for {values}, and {who}: to do it again, send the event with another"
        ' event_id, "force": true and a "reason"'
    )


def _failed(ask: Reader, asked: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Give the (process, event id) that have ended, and not well."""
    found: set[tuple[str, int]] = set()
    for some in sliced(sorted({event_id for _, event_id in asked}), CHUNK):
        columns = event_process.c
        bad = select(columns.process, columns.event_id).where(
            columns.event_id.in_(some), columns.state.in_(BAD)
        )
        found |= {(row.process, row.event_id) for row in ask(bad)}
    return found & asked


def forget(connection: Connection, event_ids: Sequence[int]) -> None:
    """Leave nothing of events that are about to be forgotten but what they have done well."""
    for some in sliced(event_ids, CHUNK):
        done = select(event_process.c.event_id).where(
            event_process.c.event_id == once_claim.c.event_id,
            event_process.c.process == once_claim.c.process,
            event_process.c.state == State.COMPLETE,
        )
        connection.execute(delete(once_claim).where(once_claim.c.event_id.in_(some), ~done.exists()))
