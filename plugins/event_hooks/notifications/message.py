"""The message of a notification: subject, text and HTML about a process of one or more events."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from event_hooks import settings
from event_hooks.ledger.records import FAILURE_STATES, ProcessState, ProcessStatus, StoredEvent
from event_hooks.masking import mask_text
from event_hooks.notifier_settings import NotificationKind
from event_hooks.reports.advice import LATE_ADVICE, REJECTION_ADVICE, STALL_ADVICE, build_retry_advice
from event_hooks.terminal import escape_text

MAX_SHOWN = 50
"""Events that a message shows in full."""

MAX_SHOWN_IN_SUBJECT = 3

MAX_SUBJECT_LENGTH = 200
MAX_VALUE_LENGTH = 2000
"""Characters of a value that a message shows; the page of the event has all of them."""

Facts = list[tuple[str, str]]
"""``[(name, text), …]``."""


@dataclass(frozen=True)
class Message:
    """A message; each attribute is the value of the placeholder of its name."""

    subject: str
    """One line."""

    text: str
    html: str


@dataclass(frozen=True)
class NotifiedEvent:
    """An event of a message."""

    event: StoredEvent
    status: ProcessStatus | None
    """Of the process; ``None`` if the event was rejected."""


def build_message(process: str, kind: str, events: Sequence[NotifiedEvent], count: int) -> Message:
    """
    Return the message about one process.

    :param process: empty if the events were rejected.
    :param events: the first :data:`MAX_SHOWN` events, at least one.
    :param count: number of all events.
    """
    facts = [list(_list_facts(kind, item)) for item in events[:MAX_SHOWN]]
    more = f"… and {count - len(facts)} more" if count > len(facts) else ""
    subject = _build_subject(process, kind, events, count)
    text = "\n\n".join([subject, *map(_to_text, facts), *([more] if more else [])])
    paragraphs = [*map(_to_html, facts), *([f"<p>{more}</p>"] if more else [])]
    return Message(subject, text, "".join(paragraphs))


def _build_subject(process: str, kind: str, events: Sequence[NotifiedEvent], count: int) -> str:
    """Return one line, so that an event cannot add a header to a mail."""
    names = [_name_event(item.event) for item in events[:MAX_SHOWN_IN_SUBJECT]]
    more = f" and {count - len(names)} more" if count > len(names) else ""
    counted = f", {count} events" if count > 1 else ""
    states = {_find_state(kind, item) for item in events}
    state = states.pop() if len(states) == 1 else kind
    line = f"[event hooks] {process or 'event'} {state}{counted}: {', '.join(names)}{more}"
    return _truncate(escape_text(mask_text(" ".join(line.split()))), MAX_SUBJECT_LENGTH)


def _name_event(event: StoredEvent) -> str:
    return f"{event.payload.get('genome') or 'no genome'} ({event.payload.get('type')})"


def _find_state(kind: str, item: NotifiedEvent) -> str:
    """Return the state of a failure, or else the kind: a process may run again when the message is sent."""
    if item.status is None:
        return "rejected"
    return item.status.state if kind == NotificationKind.FAILED and _has_failed(item.status) else kind


def _has_failed(status: ProcessStatus) -> bool:
    return status.state in FAILURE_STATES


def _list_facts(kind: str, item: NotifiedEvent) -> Iterator[tuple[str, str]]:
    event, status = item.event, item.status
    yield "Genome", str(event.payload.get("genome") or "not given")
    yield "Event", f"{event.payload.get('type')} {event.payload.get('event_id') or ''}".strip()
    if status is None:
        yield "Error", event.rejected_reason or "the event is no longer rejected"
        yield "To do", REJECTION_ADVICE
    else:
        yield "Process", f"{status.process}: {status.state}"
        yield "Job", f"{status.job_id or 'no job'} of {status.analysis} in {status.hive}"
        yield from _list_causes(kind, status)
    yield "Page", f"{settings.airflow_uri().rstrip('/')}{settings.BOARD_PATH}/events/{event.id}"


def _list_causes(kind: str, status: ProcessStatus) -> Iterator[tuple[str, str]]:
    match kind:
        case NotificationKind.STALLED:
            yield "Stall", "\n".join(json.loads(status.stalls or "{}").values()) or "it has passed"
            yield "To do", STALL_ADVICE
        case NotificationKind.LATE:
            yield "To do", LATE_ADVICE
        case _:
            task = "submit" if status.state == ProcessState.NOT_SUBMITTED else "wait"
            yield "Error", status.error or "no error message"
            yield "To do", build_retry_advice(status.process, task)


def _to_text(facts: Facts) -> str:
    return "\n".join(f"{name}: {_clean(text)}" for name, text in facts)


def _to_html(facts: Facts) -> str:
    lines = (f"<b>{name}</b>: {_to_html_value(name, _clean(text))}" for name, text in facts)
    return f"<p>{'<br>'.join(lines)}</p>"


def _to_html_value(name: str, text: str) -> str:
    escaped = html.escape(text)
    return f'<a href="{escaped}">{escaped}</a>' if name == "Page" else escaped


def _clean(text: str) -> str:
    """Mask and shorten a value, and indent its further lines: none looks like another value."""
    return "\n  ".join(map(escape_text, _truncate(mask_text(text), MAX_VALUE_LENGTH).splitlines()))


def _truncate(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
