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
from typing import TYPE_CHECKING, Any, Literal

from event_hooks import metrics, routing, settings
from event_hooks.exceptions import EventInvalid, KeyTaken, UnsafeValue
from event_hooks.hive import perl
from event_hooks.ledger.records import BAD, OPEN, Arrival, OwedReport, Received
from event_hooks.reports.outbox import owed
from event_hooks.reports.report import ABOUT, Report, told
from event_hooks.reprocessing import Candidate, all_again, failed_again, latest, received, standing_of

if TYPE_CHECKING:
    from event_hooks.ledger.ledger import Ledger
    from event_hooks.lookups import Lookups
    from event_hooks.metadata.found import Found

log = logging.getLogger(__name__)

PREFIX = "collect__"
"""Begins the ids of the runs that are started here."""

ANY = "any"
"""Stands for all sources."""

SHOWN = 1000
"""Events that a log names one by one."""

Reprocess = Literal["none", "failed", "all"]


@dataclass(frozen=True)
class Wanted:
    """Which events are collected, and how."""

    start: datetime
    end: datetime
    source: str = "Handover"
    """``any`` for all, also for those without one."""

    division: str | None = None
    types: Sequence[str] = ()
    """As our lookups spell them; all of them if none is named."""

    genome: str = "*"
    """A pattern, as in homo_*."""

    is_dry: bool = False
    """Whether to tell only what would be done."""

    reprocess: Reprocess = "none"
    """What of the known events to do again: nothing, the processes that failed, or everything."""

    reason: str = ""
    """Why everything is done again."""


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


def collect(
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
    entries = ledger.known([one.received.key for one in candidates])
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


def report(summary: Summary, wanted: Wanted, asked_by: str) -> list[OwedReport]:
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
            ABOUT: {"run_id": asked_by, "correlation_id": asked_by, "step": "collected", "processes": []}
        },
        message=told("Events collected", {**window, **counts}),
        key=f"{asked_by}/collected/{json.dumps(counts, sort_keys=True)}",
    )
    return owed([made], asked_by, {})


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
                routing.plan({"events": [payload]}, lookups)
            except EventInvalid as error:
                reason = f"refused: {error}"
                if is_mine:
                    summary.refused.append(f"{one.event_id}: {error}")
                    metrics.refused("collect")
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
    size = settings.collect_chunk()
    for number, first in enumerate(range(0, len(candidates), size)):
        some = candidates[first : first + size]
        run_id = _run_id(wanted, number, some)
        arrivals = [_arrival(one, lookups) for one in some]
        answers, count = ledger.take(arrivals, run_id, 0)
        for one, answer in zip(some, answers, strict=True):
            if isinstance(answer, KeyTaken):
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
    return f"{PREFIX}{window}_{number:04d}_{digest}"


def _arrival(one: Candidate, lookups: Lookups) -> Arrival:
    payload = one.received.payload
    plan = {process: [0] for process, _, _ in one.planned}
    return Arrival([one.received], [list(one.planned)], routing.claims({0: payload}, plan, lookups))


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
    entries = ledger.known([one.received.key for one in candidates])
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


def _tell(what: str, one: Received) -> None:
    log.info("%s (%s, %s) %s", one.payload["event_id"], one.type, one.genome, what)


def window(start: datetime) -> datetime:
    """Give from when on events are looked at for a window that begins then: late ones become visible late."""
    return start - timedelta(seconds=settings.collect_overlap())
