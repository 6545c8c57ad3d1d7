"""From the events of ensembl_metadata to runs of ``process_event``, each event once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from event_hooks import metrics, settings
from event_hooks.collect_events import params
from event_hooks.collect_events.hook import MetadataHook
from event_hooks.collect_events.params import Wanted
from event_hooks.collect_events.reprocess import (
    Candidate,
    all_again,
    failed_again,
    latest,
    received,
    standing_of,
)
from event_hooks.exceptions import EventInvalid, EventKeyConflict, UnsafeValue
from event_hooks.hive import perl
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_requests, load_events_by_key
from event_hooks.ledger.records import BAD, OPEN, EventRequest, NewEvent, PendingReport
from event_hooks.ledger.reports import add_reports
from event_hooks.process_event import planning, runs
from event_hooks.reports.outbox import send_pending, to_pending
from event_hooks.reports.report import METADATA_KEY, Report, format_message

if TYPE_CHECKING:
    from event_hooks.collect_events.metadata_event import Found
    from event_hooks.events.lookups import Lookups

log = logging.getLogger(__name__)

ANY = "any"
"""Stands for all sources."""

SHOWN = 1000
"""Events that a log names one by one."""


@dataclass
class Summary:
    """What has become of the events of a window."""

    found: int = 0
    handed_over: int = 0
    again: int = 0
    """Of these, how many were handed over before."""

    known: int = 0
    succeeded: int = 0
    failed: int = 0
    running: int = 0
    """Of those that are known or handed over: all processes done, one failed, or neither."""

    ignored: Counter[str] = field(default_factory=Counter)
    """``{reason: how many}``."""

    unknown_types: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Give it as JSON can hold it."""
        return {**vars(self), "ignored": dict(self.ignored), "unknown_types": dict(self.unknown_types)}


def collect_window(context: Any, lookups: Lookups) -> dict[str, Any]:
    """
    Collect the events of a run's window, and report it.

    :return: :meth:`Summary.as_dict`.
    :raises AirflowFailException: a param of the run is invalid.
    :raises MetadataUnreachable: nothing is recorded.
    """
    wanted = params.asked(context)
    run_id = f"{context['dag'].dag_id}/{context['run_id']}"
    ledger = Ledger()
    found = MetadataHook().events(overlap_start(wanted.start), wanted.end)
    summary = collect_new_events(
        ledger, found, wanted, lookups, run_id, lambda new: runs.start_run(ledger, new)
    )
    add_reports(ledger, build_report(summary, wanted, run_id))
    send_pending(ledger, run_id=run_id)
    ledger.close()
    return summary.as_dict()


def collect_new_events(
    ledger: Ledger,
    found: Iterable[Found],
    wanted: Wanted,
    lookups: Lookups,
    asked_by: str,
    start: Callable[[str], object],
) -> Summary:
    """
    Hand events over that are wanted and not known, many in one run.

    Whoever does the same at the same time, or again, finds what was done: the ledger has each event once.

    :param found: events of the window and of the overlap before it.
    :param asked_by: run that collects; with ``reprocess`` all, the same again is done once.
    :param start: starts a run, given its id; that the ledger has its events, is done.
    """
    summary = Summary()
    candidates = list(_wanted(found, wanted, lookups, summary))
    entries = load_events_by_key(ledger, [one.received.key for one in candidates])
    known = [
        replace(one, entry=entries[one.received.key])
        for one in candidates
        if one.is_mine and one.received.key in entries
    ]
    new = [one for one in candidates if one.received.key not in entries]
    summary.known = len(known)
    again = list(_again(ledger, known, wanted, lookups, asked_by))
    summary.again = len(again)
    for one in (new + again)[:SHOWN]:
        _tell("would be handed over" if wanted.is_dry else "is handed over", one.received)
    for one in known[:SHOWN] if wanted.is_dry else ():
        _tell(f"is known, run {one.entry.run_id if one.entry else None} has it", one.received)
    if wanted.is_dry:
        summary.handed_over = len(new) + len(again)
    else:
        _hand_over(ledger, new + again, wanted, lookups, summary, start)
    _count_states(ledger, [one for one in candidates if one.is_mine], summary)
    log.info("%s", json.dumps(summary.as_dict(), indent=1))
    return summary


def build_report(summary: Summary, wanted: Wanted, asked_by: str) -> list[PendingReport]:
    """Make the report of a window: none if there was nothing, WARN if people must see what is left."""
    if not summary.found:
        return []
    is_bad = bool(summary.refused or summary.unknown_types)
    window = {"start": wanted.start.isoformat(), "end": wanted.end.isoformat(), "dry_run": wanted.is_dry}
    counts = {**summary.as_dict(), "refused": summary.refused[:20], "runs": summary.runs[:20]}
    made = Report(
        report_type="WARN" if is_bad else "INFO",
        process="event_handler",
        resource=None,
        params={
            METADATA_KEY: {
                "run_id": asked_by,
                "correlation_id": asked_by,
                "step": "collected",
                "processes": [],
            }
        },
        message=format_message("Events collected", {**window, **counts}),
        key=f"{asked_by}/collected/{json.dumps(counts, sort_keys=True)}",
    )
    return to_pending([made], asked_by, {})


def _wanted(
    found: Iterable[Found], wanted: Wanted, lookups: Lookups, summary: Summary
) -> Iterator[Candidate]:
    """Give the events that are wanted and can be done; count the others, once: in their own window."""
    for one in found:
        is_mine = one.creation_time.replace(tzinfo=UTC) >= wanted.start
        summary.found += is_mine
        reason = _why_ignored(one, wanted, lookups)
        if reason is None:
            payload = one.payload(_is_safe)
            try:
                planning.plan({"events": [payload]}, lookups)
            except EventInvalid as error:
                reason = f"refused: {error}"
                if is_mine:
                    summary.refused.append(f"{one.event_id}: {error}")
                    metrics.rejected("collect")
                    log.error("%s is refused: %s", one.event_id, error)  # noqa: TRY400 (the message says it all)
            else:
                yield Candidate(received(payload), is_mine=is_mine)
                continue
        if is_mine:
            summary.ignored[reason.partition(":")[0]] += 1
            if reason == UNKNOWN:
                summary.unknown_types[one.type] += 1
            if sum(summary.ignored.values()) <= SHOWN:
                log.info("%s (%s, %s) is ignored: %s", one.event_id, one.type, one.source, reason)


UNKNOWN = "its type is in no lookup"


def _why_ignored(one: Found, wanted: Wanted, lookups: Lookups) -> str | None:
    if wanted.source != ANY and one.source != wanted.source:
        return f"its source is {one.source or 'not set'}"
    if wanted.division and one.division != wanted.division:
        return "it is of another division"
    if not fnmatchcase(one.name or "", wanted.genome):
        return "it is of another genome"
    if wanted.types and one.kind not in wanted.types:
        return "it is of another type"
    return None if one.kind in lookups.types else UNKNOWN


def _is_safe(name: str, value: Any) -> bool:
    try:
        perl.dumps({name: value})
    except UnsafeValue:
        return False
    return True


def _hand_over(
    ledger: Ledger,
    candidates: Sequence[Candidate],
    wanted: Wanted,
    lookups: Lookups,
    summary: Summary,
    start: Callable[[str], object],
) -> None:
    size = settings.collect_batch_size()
    for number, first in enumerate(range(0, len(candidates), size)):
        some = candidates[first : first + size]
        run_id = _run_id(wanted, number, some)
        arrivals = [_arrival(one, lookups) for one in some]
        answers, count = accept_requests(ledger, arrivals, run_id, 0)
        for one, answer in zip(some, answers, strict=True):
            if isinstance(answer, EventKeyConflict):
                log.warning(
                    "%s is known with other details: it is not done again", one.received.payload["event_id"]
                )
        summary.handed_over += count
        if count:
            start(run_id)
            summary.runs.append(run_id)
            log.info("%s of %s events are handed over", summary.handed_over, len(candidates))


def _run_id(wanted: Wanted, number: int, some: Sequence[Candidate]) -> str:
    """Make an id of window and chunk; a digest of what is in it, for a repetition may find more."""
    window = "_".join(f"{at.astimezone(UTC):%Y%m%dT%H%M%S}" for at in (wanted.start, wanted.end))
    digest = hashlib.sha256("".join(one.received.key for one in some).encode()).hexdigest()[:8]
    return f"{runs.COLLECT_PREFIX}{window}_{number:04d}_{digest}"


def _arrival(one: Candidate, lookups: Lookups) -> EventRequest:
    payload = one.received.payload
    plan = {process: [0] for process, _, _ in one.planned}
    return EventRequest([one.received], [list(one.planned)], planning.claims({0: payload}, plan, lookups))


def _again(
    ledger: Ledger, known: Sequence[Candidate], wanted: Wanted, lookups: Lookups, asked_by: str
) -> Sequence[Candidate]:
    match wanted.reprocess:
        case "failed":
            return failed_again(ledger, known, lookups)
        case "all":
            return all_again(ledger, known, asked_by, wanted.reason)
    return ()


def _count_states(ledger: Ledger, candidates: Sequence[Candidate], summary: Summary) -> None:
    """Count what has become of events; of one that was done again, by its last repetition."""
    entries = load_events_by_key(ledger, [one.received.key for one in candidates])
    known = [
        replace(one, entry=entries[one.received.key]) for one in candidates if one.received.key in entries
    ]
    last = [one.entry for one, _ in latest(ledger, known) if one.entry]
    standing = standing_of(ledger, last)
    for entry in last:
        ones = standing[entry.id]
        if any(one.state in BAD for one in ones):
            summary.failed += 1
        elif not entry.is_planned or any(one.state in OPEN for one in ones):
            summary.running += 1
        else:
            summary.succeeded += 1


def _tell(what: str, one: NewEvent) -> None:
    log.info("%s (%s, %s) %s", one.payload["event_id"], one.type, one.genome, what)


def overlap_start(start: datetime) -> datetime:
    """Give from when on events are looked at for a window that begins then: late ones become visible late."""
    return start - timedelta(seconds=settings.collect_overlap())
