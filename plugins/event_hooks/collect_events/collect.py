"""Start runs of ``process_event`` for the events of ensembl_metadata, once for each event."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

from more_itertools import constrained_batches, partition

from event_hooks import metrics, settings
from event_hooks.collect_events.hook import MetadataHook
from event_hooks.collect_events.params import CollectParams, parse_params
from event_hooks.collect_events.reprocess import (
    Candidate,
    build_new_event,
    find_stored,
    iter_latest,
    load_statuses_by_event,
    select_all,
    select_failed,
)
from event_hooks.collect_events.run_ids import RunIds, stored_run_id
from event_hooks.collect_events.summary import CollectSummary, build_report
from event_hooks.collect_events.windows import MARK_NAME, list_windows, overlap_start
from event_hooks.events.models import EventBatch
from event_hooks.exceptions import EventInvalid, EventKeyConflict, ReportNotPublished
from event_hooks.field_path import FieldPath
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_requests
from event_hooks.ledger.marks import move_mark
from event_hooks.ledger.records import FAILURE_STATES, MAX_RUN_BYTES, UNFINISHED_STATES, EventRequest
from event_hooks.ledger.reports import insert_reports
from event_hooks.process_event import planning, runs
from event_hooks.reports.outbox import send_pending

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from event_hooks.collect_events.metadata_event import MetadataEvent
    from event_hooks.events.lookups import Lookups
    from event_hooks.ledger.records import PendingReport

log = logging.getLogger(__name__)

ANY_SOURCE = "any"
"""The value of the param ``source`` that selects all sources."""

MAX_LOGGED_EVENTS = 1000
"""Events of one kind (started, duplicate, ignored) that the log lists."""

UNKNOWN_TYPE = "its type is in no lookup"
"""Reason for ignoring an event."""


def collect_window(context: Any, lookups: Lookups) -> dict[str, Any]:
    """
    Start runs for the events of a run's window, and of the gap before it, and report on both.

    :param context: Airflow's task context.
    :return: :meth:`CollectSummary.as_dict`, for all windows that this attempt of the task reads.
    :raises AirflowFailException: a param of the run is invalid.
    :raises MetadataUnreachable: ensembl_metadata cannot be read; the windows read before are finished.
    """
    params = parse_params(context)
    collect_run_id = f"{context['dag'].dag_id}/{context['run_id']}"
    with closing(Ledger()) as ledger:
        summary = collect_windows(ledger, params, lookups, collect_run_id, partial(runs.start_run, ledger))
        try:
            send_pending(ledger, run_id=collect_run_id)
        except ReportNotPublished as error:
            log.warning("A report stays pending until maintain_ledger sends it: %s", error)
    return summary.as_dict()


def collect_windows(
    ledger: Ledger,
    params: CollectParams,
    lookups: Lookups,
    collect_run_id: str,
    start_run: Callable[[str], object],
) -> CollectSummary:
    """
    Collect the events of a run's window, and of the gap before it if the run is a scheduled one.

    Each window is read by itself. Once its events are in the ledger, one transaction stores its report and
    moves the high-water mark, so a retry continues with the first unfinished window.
    """
    total = CollectSummary()
    for window in list_windows(ledger, params):
        events = MetadataHook().list_events(overlap_start(window.start), window.end)
        summary = collect_new_events(ledger, events, window, lookups, collect_run_id, start_run)
        ledger.write(partial(_finish_window, window, build_report(summary, window, collect_run_id)))
        total.add(summary)
    return total


def _finish_window(window: CollectParams, reports: Sequence[PendingReport], connection: Connection) -> None:
    insert_reports(connection, reports)
    if window.moves_mark:
        move_mark(connection, MARK_NAME, window.end)


def collect_new_events(
    ledger: Ledger,
    events: Iterable[MetadataEvent],
    params: CollectParams,
    lookups: Lookups,
    collect_run_id: str,
    start_run: Callable[[str], object],
) -> CollectSummary:
    """
    Start runs for the events that pass the filters and are not in the ledger; many events share a run.

    It is idempotent, also when several calls run at the same time: the ledger accepts each event once. A
    retry counts the events that an earlier attempt of the same run accepted as started, not as duplicates.

    :param events: of the window and of the overlap before it.
    :param collect_run_id: the run that collects; with ``reprocess: all`` it starts each repetition once.
    :param start_run: start the run with this id; the ledger has its events by then. If Airflow is
        unavailable, ``maintain_ledger`` starts it.
    """
    summary, run_ids = CollectSummary(), RunIds(params, collect_run_id)
    candidates = list(_select_candidates(events, params, lookups, summary))
    stored = find_stored(ledger, candidates)
    others, accepted = map(list, partition(run_ids.has, stored))
    duplicates = [candidate for candidate in others if candidate.is_in_window]
    repetitions, repeated = _select_repetitions(ledger, duplicates, params, lookups, collect_run_id, run_ids)
    stored_keys = {candidate.key for candidate in stored}
    to_start = [*(candidate for candidate in candidates if candidate.key not in stored_keys), *repetitions]
    summary.duplicates, summary.reprocessed = len(duplicates), repeated + len(repetitions)
    summary.started = len(accepted) + repeated
    summary.runs += dict.fromkeys(filter(None, map(stored_run_id, accepted)))
    _log_candidates(to_start, duplicates, is_dry_run=params.is_dry_run)
    if params.is_dry_run:
        summary.started += len(to_start)
    else:
        _start_runs(ledger, to_start, lookups, summary, run_ids, start_run)
    _count_states(ledger, [candidate for candidate in candidates if candidate.is_in_window], summary)
    log.info("%s", json.dumps(summary.as_dict(), indent=1))
    return summary


def _select_candidates(
    events: Iterable[MetadataEvent], params: CollectParams, lookups: Lookups, summary: CollectSummary
) -> Iterator[Candidate]:
    """Yield the valid events that pass the filters; count the others, unless they are of the overlap."""
    for event in events:
        is_in_window = event.creation_time.replace(tzinfo=UTC) >= params.start
        summary.found += is_in_window
        if reason := _find_ignore_reason(event, params, lookups):
            if is_in_window:
                _count_ignored(event, reason, summary)
            continue
        payload = event.payload(_is_safe)
        try:
            plan = planning.plan_batch(EventBatch.from_event(payload), lookups)
        except EventInvalid as error:
            if is_in_window:
                _count_rejected(event, error, summary)
        else:
            places = tuple(map(lookups.find_place, plan))
            yield Candidate(build_new_event(payload), places, is_in_window=is_in_window)


def _find_ignore_reason(event: MetadataEvent, params: CollectParams, lookups: Lookups) -> str | None:
    if params.source not in (ANY_SOURCE, event.source):
        return f"its source is {event.source or 'not set'}"
    if params.division and event.division != params.division:
        return "it is of another division"
    if not fnmatchcase(event.name or "", params.genome):
        return "it is of another genome"
    if params.types and event.lookup_type not in params.types:
        return "it is of another type"
    return None if event.lookup_type in lookups.event_types else UNKNOWN_TYPE


def _count_ignored(event: MetadataEvent, reason: str, summary: CollectSummary) -> None:
    summary.ignored[reason.partition(":")[0]] += 1
    if reason == UNKNOWN_TYPE:
        summary.unknown_types[event.type] += 1
    if sum(summary.ignored.values()) <= MAX_LOGGED_EVENTS:
        log.info("%s (%s, %s) is ignored: %s", event.event_id, event.type, event.source, reason)


def _is_safe(name: str, value: Any) -> bool:
    """Return whether a field can be stored and handed to a job."""
    try:
        planning.check_value({name: value}, FieldPath())
    except EventInvalid:
        return False
    return True


def _count_rejected(event: MetadataEvent, error: EventInvalid, summary: CollectSummary) -> None:
    summary.rejected.append(f"{event.event_id}: {error}")
    metrics.count_rejected("collect")
    log.error("%s is rejected: %s", event.event_id, error)
    _count_ignored(event, f"rejected: {error}", summary)


def _select_repetitions(
    ledger: Ledger,
    duplicates: Sequence[Candidate],
    params: CollectParams,
    lookups: Lookups,
    collect_run_id: str,
    run_ids: RunIds,
) -> tuple[Sequence[Candidate], int]:
    """Return the repetitions to start, and the number of those that an earlier attempt has accepted."""
    match params.reprocess:
        case "failed":
            latest = (candidate for candidate, _ in iter_latest(ledger, duplicates))
            others, accepted = map(list, partition(run_ids.has, latest))
            return select_failed(ledger, others, lookups), len(accepted)
        case "all":
            repetitions = select_all(ledger, duplicates, collect_run_id, params.reason)
            return repetitions, len(duplicates) - len(repetitions)
    return (), 0


def _log_candidates(
    to_start: Sequence[Candidate], duplicates: Sequence[Candidate], *, is_dry_run: bool
) -> None:
    for candidate in to_start[:MAX_LOGGED_EVENTS]:
        _log_candidate(candidate, "would be started" if is_dry_run else "is started")
    for candidate in duplicates[:MAX_LOGGED_EVENTS] if is_dry_run else ():
        _log_candidate(candidate, f"is a duplicate of an event in run {stored_run_id(candidate)}")


def _log_candidate(candidate: Candidate, text: str) -> None:
    event = candidate.new_event
    log.info("%s (%s, %s) %s", event.payload["event_id"], event.type, event.genome, text)


def _start_runs(
    ledger: Ledger,
    candidates: Sequence[Candidate],
    lookups: Lookups,
    summary: CollectSummary,
    run_ids: RunIds,
    start_run: Callable[[str], object],
) -> None:
    batches = constrained_batches(
        candidates,
        MAX_RUN_BYTES,
        settings.collect_batch_size(),
        get_len=lambda candidate: len(candidate.new_event.payload_text),
        strict=False,  # a longer event has a run of its own
    )
    for number, batch in enumerate(batches):
        run_id = run_ids.build(number, batch)
        requests = [_build_request(candidate, lookups) for candidate in batch]
        results, count = accept_requests(ledger, requests, run_id, 0)
        for candidate, result in zip(batch, results, strict=True):
            if isinstance(result, EventKeyConflict):
                # Another run has accepted the event meanwhile, before its names or details were changed.
                log.info("%s is a duplicate", candidate.new_event.payload["event_id"])
        summary.started += count
        if count:
            summary.runs.append(run_id)
            log.info("%s events are accepted for run %s", count, run_id)
            _start_run(run_id, start_run)


def _start_run(run_id: str, start_run: Callable[[str], object]) -> None:
    """Start a run; if Airflow is unavailable, only log it, because the ledger has the run's events."""
    try:
        start_run(run_id)
    except RuntimeError as error:
        log.warning("Run %s is pending until maintain_ledger starts it: %s", run_id, error)


def _build_request(candidate: Candidate, lookups: Lookups) -> EventRequest:
    plan = {process: [0] for process, _, _ in candidate.planned}
    claims = planning.build_claims({0: candidate.new_event.payload}, plan, lookups)
    return EventRequest([candidate.new_event], [list(candidate.planned)], claims)


def _count_states(ledger: Ledger, candidates: Sequence[Candidate], summary: CollectSummary) -> None:
    """Count the outcomes of events; an event with repetitions counts by the last one."""
    latest = iter_latest(ledger, find_stored(ledger, candidates))
    events = [candidate.stored_event for candidate, _ in latest if candidate.stored_event]
    statuses = load_statuses_by_event(ledger, events)
    for event in events:
        states = [status.state for status in statuses[event.id]]
        if event.rejected_reason or any(state in FAILURE_STATES for state in states):
            summary.failed += 1
        elif not event.is_planned or any(state in UNFINISHED_STATES for state in states):
            summary.running += 1
        else:
            summary.succeeded += 1
