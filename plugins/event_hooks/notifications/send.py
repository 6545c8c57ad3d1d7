"""Send pending notifications by the configured notifiers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from event_hooks import settings
from event_hooks.exceptions import EventHooksError, NotificationNotSent
from event_hooks.ledger.events import load_events
from event_hooks.ledger.notifications import (
    claim_message,
    list_messages,
    list_messages_of_run,
    mark_failed,
    mark_sent,
)
from event_hooks.ledger.processes import load_statuses
from event_hooks.masking import mask_text
from event_hooks.notifications.message import MAX_SHOWN, Message, NotifiedEvent, build_message
from event_hooks.notifications.notifiers import build_notifier

if TYPE_CHECKING:
    from airflow.sdk import Context

    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.notifications import Claim, MessageKey
    from event_hooks.notifier_settings import NotifierSettings

log = logging.getLogger(__name__)


def send_notifications(ledger: Ledger, context: Context) -> None:
    """
    Send the pending notifications: one message for each notifier, process and kind.

    A message is sent at least once. It is sent twice if the task is killed between the notifier's call and
    the record of it. A message that fails does not prevent those of other notifiers.

    :param context: of the present task, for the notifiers.
    :raises NotificationNotSent: a notifier has failed; its notifications stay pending.
    :raises ValueError: the setting is invalid.
    """
    _send_messages(ledger, context, list_messages(ledger))


def send_notifications_of_run(ledger: Ledger, context: Context) -> None:
    """
    Send the pending messages with an event of the present run; log all errors, because the run has ended.

    Pending notifications of other runs about the same processes are in the same messages. `maintain_ledger`
    retries those that fail.
    """
    try:
        _send_messages(ledger, context, list_messages_of_run(ledger, context["dag_run"].run_id))
    except (EventHooksError, ValueError):
        log.exception("Notifications stay pending, maintain_ledger retries")


def _send_messages(ledger: Ledger, context: Context, messages: Iterable[MessageKey]) -> None:
    configured, errors = settings.notifiers(), dict[int, str]()
    for key in messages:
        if key.notifier not in errors:
            try:
                _send_message(ledger, context, claim_message(ledger, key), configured)
            except NotificationNotSent as error:
                errors[key.notifier] = str(error)
    if errors:
        raise NotificationNotSent("\n".join(errors.values()))


def _send_message(
    ledger: Ledger, context: Context, claim: Claim, configured: Sequence[NotifierSettings]
) -> None:
    position, process, kind = claim.key
    if not claim.ids:
        return
    if position >= len(configured):
        error = f"the setting has no notifiers[{position}]"
        log.warning("%s notifications (%s %s) stay pending: %s", len(claim.ids), process, kind, error)
        mark_failed(ledger, claim, error)
        return
    try:
        message = _load_message(ledger, claim)
        build_notifier(position, configured[position], message).notify(context)
    except Exception as error:  # a notifier may raise any error, and must not stop the others
        reason = mask_text(f"{type(error).__name__}: {error}")
        mark_failed(ledger, claim, reason)
        # Without the cause: its traceback would show values that are not masked.
        raise NotificationNotSent(
            f"notifiers[{position}] has not sent {len(claim.ids)} notifications"
            f" ({process or 'rejected events'}, {kind}): {reason}"
        ) from None
    mark_sent(ledger, claim)
    log.info("notifiers[%s] has sent %s notifications (%s %s)", position, len(claim.ids), process, kind)


def _load_message(ledger: Ledger, claim: Claim) -> Message:
    shown = claim.event_ids[:MAX_SHOWN]
    events = load_events(ledger, shown)
    statuses = {
        status.event_id: status
        for status in load_statuses(ledger, shown)
        if status.process == claim.key.process
    }
    notified = [NotifiedEvent(event, statuses.get(event.id)) for event in events]
    return build_message(claim.key.process, claim.key.kind, notified, len(claim.ids))
