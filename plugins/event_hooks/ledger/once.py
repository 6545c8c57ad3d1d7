"""Claims of processes that run once for the same values: the event that holds each claim."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from more_itertools import sliced
from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, delete, or_, select, update

from event_hooks.ledger.clock import read_time
from event_hooks.ledger.database import (
    MAX_ROWS_PER_STATEMENT,
    RowReader,
    build_row_reader,
    execute_updates,
    insert_missing,
    read_matching,
)
from event_hooks.ledger.records import FAILURE_STATES, OnceClaim, OnceClaims, ProcessState, ProcessStatus
from event_hooks.ledger.tables import event, event_process, once_claim
from event_hooks.masking import mask_secrets

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger

PRUNED_EVENT = 0
"""Stands for the id of a holder that was pruned."""


@dataclass(frozen=True)
class _StoredClaim:
    """A claim whose digest is stored with its process."""

    values_digest: str
    is_forced: bool
    values: Mapping[str, Any] = field(default_factory=dict)
    """Unknown, because the row of the claim has them, unless it was deleted with the event that held it."""


_Claims = Mapping[tuple[int, str], OnceClaim | _StoredClaim]


def claim_once(connection: Connection, claims: _Claims) -> dict[tuple[int, str], int]:
    """
    Claim processes that run once, unless other events hold the claims.

    An event loses its claim when its process fails or is stopped. Idempotent. Other transactions that claim
    the same values wait until this transaction ends.

    :param claims: by event id.
    :return: claims that other events hold: ``{(event id, process): id of the holder}``.
    """
    _insert_claims(connection, claims)
    holders = _lock_holders(connection, claims)
    failed = _load_failed(build_row_reader(connection), holders)
    held: dict[tuple[int, str], int] = {}
    for (event_id, process), claim in claims.items():
        key = process, claim.values_digest
        holder = holders[key]
        if holder == event_id:
            continue
        if claim.is_forced or (process, holder) in failed:
            statement = update(once_claim).where(_has_key(*key)).values(event_id=event_id)
            connection.execute(statement)
            holders[key] = event_id
            failed.discard((process, event_id))  # a failed process that claims again has not failed any more
        else:
            held[event_id, process] = holder or PRUNED_EVENT
    return held


def claim_again(connection: Connection, rows: Collection[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """
    Claim failed processes that are about to run again, by the rules of :func:`claim_once`.

    Call it before the transaction changes the processes: all transactions lock claims first.

    :param rows: (event id, process) pairs; processes that have not failed, or have no claim, are ignored.
    :return: as :func:`claim_once`; these processes must not run again.
    """
    claims = _load_claims(connection, rows)
    return claim_once(connection, claims) if claims else {}


def skip_claimed(connection: Connection, rows: Collection[tuple[int, str]]) -> None:
    """Claim failed processes again, as :func:`claim_again`; skip those whose claims other events hold."""
    held = claim_again(connection, rows)
    values = _load_claimed_values(connection, held)
    now = read_time(connection)
    updates = [
        {
            "event_id_": event_id,
            "process_": process,
            "state": ProcessState.SKIPPED,
            "error": skip_reason(process, OnceClaim(values[event_id, process], False), holder),
            "result": None,
            "attempt": None,  # so that no outcome of a later attempt replaces the state
            "finished_at": now,
        }
        for (event_id, process), holder in held.items()
    ]
    execute_updates(connection, update(event_process).where(_is_row()), updates)


def insert_planned(
    connection: Connection, planned: Sequence[ProcessStatus], claims: OnceClaims
) -> dict[tuple[int, str], ProcessState]:
    """
    Insert processes of events that are not stored yet.

    :param claims: by event id; claims of other processes than the planned ones are ignored.
    :return: the state of each (event id, process): planned or skipped.
    """
    keys = {(status.event_id, status.process) for status in planned}
    claims = {key: claim for key, claim in claims.items() if key in keys}
    holders = claim_once(connection, claims) if claims else {}
    now = read_time(connection)
    rows = []
    for status in planned:
        key = status.event_id, status.process
        reason = skip_reason(status.process, claims[key], holders[key]) if key in holders else None
        rows.append(_build_process_row(status, claims.get(key), reason, now))
    insert_missing(connection, event_process, rows)
    return {(row["event_id"], row["process"]): ProcessState(row["state"]) for row in rows}


def find_holders(ledger: Ledger, claims: OnceClaims) -> dict[tuple[int, str], int]:
    """
    Return the result that :func:`claim_once` would have, without any change.

    :param claims: by id or position; the result has the same keys.
    """
    holders = {
        (row.process, row.values_digest): row.event_id
        for has_key in _batch_conditions(claims)
        for row in ledger.read(select(once_claim).where(has_key))
    }
    failed = _load_failed(ledger.read, holders)
    return {
        (event, process): holders[process, claim.values_digest] or PRUNED_EVENT
        for (event, process), claim in claims.items()
        if (process, claim.values_digest) in holders
        and not claim.is_forced
        and (process, holders[process, claim.values_digest]) not in failed
    }


def skip_reason(process: str, claim: OnceClaim, holder: int) -> str:
    """Return the reason why a process is skipped for an event."""
    values = ", ".join(f"{name} {json.dumps(value)}" for name, value in mask_secrets(claim.values).items())
    values = values or "the same values"  # of a claim that was deleted and claimed again
    cause = f"event {holder} has claimed it" if holder else "it has run for an event that was deleted since"
    return (
        f"{process} runs once for {values}, and {cause}: to run it again, send the event with another"
        ' event_id, "force": true and a "reason"'
    )


def release_claims(connection: Connection, event_ids: Sequence[int]) -> None:
    """Delete the claims of events that are about to be deleted, except claims of completed processes."""
    complete = select(event_process.c.event_id).where(
        event_process.c.event_id == once_claim.c.event_id,
        event_process.c.process == once_claim.c.process,
        event_process.c.state == ProcessState.COMPLETE,
    )
    for batch in sliced(event_ids, MAX_ROWS_PER_STATEMENT):
        connection.execute(delete(once_claim).where(once_claim.c.event_id.in_(batch), ~complete.exists()))


def _load_claims(
    connection: Connection, rows: Collection[tuple[int, str]]
) -> dict[tuple[int, str], _StoredClaim]:
    """Return the claims of failed processes."""
    columns = event_process.c
    statement = (
        select(columns.event_id, columns.process, columns.once_digest, event.c.payload)
        .select_from(event_process.join(event, event.c.id == columns.event_id))
        .where(columns.once_digest.is_not(None), columns.state.in_(FAILURE_STATES))
    )
    return {
        (row.event_id, row.process): _StoredClaim(row.once_digest, bool(json.loads(row.payload).get("force")))
        for row in _read_processes(connection, statement, rows)
    }


def _load_claimed_values(
    connection: Connection, rows: Collection[tuple[int, str]]
) -> dict[tuple[int, str], dict[str, Any]]:
    """Return the claimed values of processes."""
    columns = event_process.c
    is_claim = _has_key(columns.process, columns.once_digest)
    statement = select(columns.event_id, columns.process, once_claim.c.claimed_values)
    statement = statement.select_from(event_process.join(once_claim, is_claim))
    return {
        (row.event_id, row.process): json.loads(row.claimed_values)
        for row in _read_processes(connection, statement, rows)
    }


def _read_processes(
    connection: Connection, statement: Select[Any], rows: Collection[tuple[int, str]]
) -> Iterator[Any]:
    """Yield the rows of a SELECT from ``event_process`` for (event id, process) pairs."""
    event_ids = sorted({event_id for event_id, _ in rows})
    for row in read_matching(build_row_reader(connection), statement, event_process.c.event_id, event_ids):
        if (row.event_id, row.process) in rows:
            yield row


def _insert_claims(connection: Connection, claims: _Claims) -> None:
    """Insert the claims that do not exist; if several events claim the same values, the first event wins."""
    rows = {
        (process, claim.values_digest): {
            "process": process,
            "values_digest": claim.values_digest,
            "claimed_values": json.dumps(claim.values),
            "event_id": event_id,
        }
        for (event_id, process), claim in reversed(list(claims.items()))
    }
    # All transactions insert in this order, which avoids deadlocks.
    insert_missing(connection, once_claim, [rows[key] for key in sorted(rows)])


def _lock_holders(connection: Connection, claims: _Claims) -> dict[tuple[str, str], int | None]:
    """Lock the claims; return ``{(process, digest): id of the holder}``, ``None`` for a pruned holder."""
    statement = select(once_claim).order_by(once_claim.c.process, once_claim.c.values_digest)
    return {
        (row.process, row.values_digest): row.event_id
        for has_key in _batch_conditions(claims)
        for row in connection.execute(statement.where(has_key).with_for_update())
    }


def _batch_conditions(claims: _Claims) -> Iterator[ColumnElement[bool]]:
    """Yield conditions that together select the rows of all claims, a batch of rows each."""
    keys = sorted({(process, claim.values_digest) for (_, process), claim in claims.items()})
    for batch in sliced(keys, MAX_ROWS_PER_STATEMENT):
        yield or_(*(_has_key(process, digest) for process, digest in batch))


def _has_key(process: Any, values_digest: Any) -> ColumnElement[bool]:
    return and_(once_claim.c.process == process, once_claim.c.values_digest == values_digest)


def _is_row() -> ColumnElement[bool]:
    columns = event_process.c
    return and_(columns.event_id == bindparam("event_id_"), columns.process == bindparam("process_"))


def _load_failed(
    read_rows: RowReader, holders: Mapping[tuple[str, str], int | None]
) -> set[tuple[str, int | None]]:
    """Return the (process, event id) pairs of the holders that have failed."""
    keys = {(process, event_id) for (process, _), event_id in holders.items() if event_id}
    columns = event_process.c
    statement = select(columns.process, columns.event_id).where(columns.state.in_(FAILURE_STATES))
    event_ids = sorted({event_id for _, event_id in keys})
    rows = read_matching(read_rows, statement, columns.event_id, event_ids)
    return {(row.process, row.event_id) for row in rows} & keys


def _build_process_row(
    status: ProcessStatus, claim: OnceClaim | None, skip_reason: str | None, now: datetime
) -> dict[str, Any]:
    return {
        "event_id": status.event_id,
        "process": status.process,
        "hive": status.hive,
        "analysis": status.analysis,
        "once_digest": claim.values_digest if claim else None,
        "state": ProcessState.PLANNED if skip_reason is None else ProcessState.SKIPPED,
        "error": skip_reason,
        "finished_at": None if skip_reason is None else now,
    }
