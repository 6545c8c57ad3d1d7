"""Notifications: pending from the transaction that stores the fact until a notifier has sent them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from more_itertools import sliced
from sqlalchemy import ColumnElement, Connection, or_, select, update

from event_hooks.ledger.clock import load_time, read_time, utc_now
from event_hooks.ledger.database import MAX_ROWS_PER_STATEMENT, insert_missing, sanitize_text
from event_hooks.ledger.tables import event, notification

if TYPE_CHECKING:
    from typing import Any

    from event_hooks.ledger.database import Ledger
    from event_hooks.notifier_settings import NotificationKind

MAX_EVENTS_PER_MESSAGE = 10_000
"""Notifications that one message contains; the default of the setting ``max_events``."""

CLAIM_TIME = timedelta(minutes=15)
"""
Time for which claimed notifications are not claimed again.

It is longer than the timeout of the task of `maintain_ledger`. If that task is killed, they are sent later.
"""

RETRY_DELAY = timedelta(minutes=5)
"""Time after a failed attempt until the next one."""


class MessageKey(NamedTuple):
    """The notifications that one message contains: pending, with the same values of these columns."""

    notifier: int
    """Position in the setting ``notifiers``."""

    process: str
    """Empty for rejected events."""

    kind: str


class Claim(NamedTuple):
    """Notifications that this process sends."""

    key: MessageKey
    ids: Sequence[int]
    event_ids: Sequence[int]
    """In the order in which they were stored."""


def insert_notifications(
    connection: Connection,
    kind: NotificationKind,
    process: str,
    event_ids: Collection[int],
    notifiers: Collection[int],
) -> None:
    """
    Insert pending notifications; a stored one with the same event, process, kind and notifier stays as it is.

    :param process: empty if the events were rejected.
    :param notifiers: positions in the setting ``notifiers``.
    """
    if not event_ids or not notifiers:
        return
    now = read_time(connection)
    rows = [
        {"event_id": event_id, "process": process, "kind": kind, "notifier": notifier, "created_at": now}
        for event_id in sorted(event_ids)
        for notifier in sorted(notifiers)
    ]
    insert_missing(connection, notification, rows)


def list_messages(ledger: Ledger) -> list[MessageKey]:
    """Return the messages that can be sent now."""
    columns = notification.c.notifier, notification.c.process, notification.c.kind
    statement = select(*columns).distinct().where(is_ready()).order_by(*columns)
    return [MessageKey(*row) for row in ledger.read(statement)]


def list_messages_of_run(ledger: Ledger, run_id: str) -> list[MessageKey]:
    """
    Return the messages with an event of a run that can be sent now.

    Notifiers with a failed notification are left out: only `maintain_ledger` calls them, until it succeeds.
    """
    columns = notification.c.notifier, notification.c.process, notification.c.kind
    joined = notification.join(event, event.c.id == notification.c.event_id)
    of_run = select(*columns).select_from(joined).distinct().where(is_ready(), event.c.run_id == run_id)
    failed = select(notification.c.notifier).where(is_pending(), notification.c.error.is_not(None))
    rows = ledger.read(of_run.where(notification.c.notifier.not_in(failed)).order_by(*columns))
    return [MessageKey(*row) for row in rows]


def claim_message(ledger: Ledger, key: MessageKey) -> Claim:
    """
    Claim the notifications of a message, at most :data:`MAX_EVENTS_PER_MESSAGE`, the oldest first.

    No other process claims them for :data:`CLAIM_TIME`. The claim is empty if another process has them.
    SQLite locks no rows: there, two processes may claim the same.
    """
    columns = notification.c
    statement = (
        select(columns.id, columns.event_id)
        .where(is_ready(), columns.notifier == key.notifier)
        .where(columns.process == key.process, columns.kind == key.kind)
        .order_by(columns.id)
        .limit(MAX_EVENTS_PER_MESSAGE)
        .with_for_update(skip_locked=True)
    )

    def write(connection: Connection) -> Claim:
        rows = connection.execute(statement).all()
        ids = [row.id for row in rows]
        _update(connection, ids, retry_at=read_time(connection) + CLAIM_TIME)
        return Claim(key, ids, [row.event_id for row in rows])

    return ledger.write(write)


def mark_sent(ledger: Ledger, claim: Claim) -> None:
    """Record that a notifier has sent the claimed notifications; idempotent."""
    ledger.write(lambda connection: _update(connection, claim.ids, sent_at=utc_now(), error=None))


def mark_failed(ledger: Ledger, claim: Claim, error: str) -> None:
    """Record that the claimed notifications could not be sent; they are sent after :data:`RETRY_DELAY`."""
    values = {"retry_at": load_time(ledger) + RETRY_DELAY, "error": sanitize_text(error)}
    ledger.write(lambda connection: _update(connection, claim.ids, **values))


def is_pending() -> ColumnElement[bool]:
    """Return the condition that a notification is not sent."""
    return notification.c.sent_at.is_(None)


def is_ready() -> ColumnElement[bool]:
    """Return the condition that a notification is pending, and can be sent now."""
    can_be_sent = or_(notification.c.retry_at.is_(None), notification.c.retry_at <= utc_now())
    return is_pending() & can_be_sent


def _update(connection: Connection, ids: Sequence[int], **values: Any) -> None:
    for batch in sliced(ids, MAX_ROWS_PER_STATEMENT):
        statement = update(notification).where(notification.c.id.in_(batch))
        connection.execute(statement.values(values))
