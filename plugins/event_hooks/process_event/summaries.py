"""The summary of an event: a report on the outcomes of all its processes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from event_hooks.ledger import joins
from event_hooks.ledger.events import load_run_events
from event_hooks.ledger.processes import load_process_statuses, load_run_statuses
from event_hooks.ledger.records import RunEvents
from event_hooks.ledger.reports import find_reported_events, store_reports
from event_hooks.reports.builder import ReportBuilder, ReportStep
from event_hooks.reports.outbox import to_pending

if TYPE_CHECKING:
    from collections.abc import Collection

    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.records import ProcessStatus
    from event_hooks.reports.report import Report

log = logging.getLogger(__name__)


def store_summaries(ledger: Ledger, run_id: str, only: Collection[int] | None = None) -> None:
    """
    Store the summaries of a run's events, one for each change of their outcomes; idempotent.

    :param only: ids of the events; default: all.
    """
    stored = load_run_events(ledger, run_id)
    accepted = [event for event in stored if event.rejected_reason is None]
    selected = [event for event in accepted if only is None or event.id in only]
    run, statuses = RunEvents.from_stored(run_id, selected), load_run_statuses(ledger, run_id)
    reports = list(build_summaries(run, statuses, _load_joins(ledger, run)))
    for report in reports:
        log.info("%s for %s: %s", report.routing_key, report.resource, report.message)
    store_reports(ledger, to_pending(reports, run_id))


def correct_summaries(ledger: Ledger, run_id: str, process: str) -> None:
    """
    Store new summaries of the events of a process that have one, if an outcome has changed; idempotent.

    The task `report` stores the same summaries, unless a user has cleared the wait without Downstream.
    """
    statuses = load_process_statuses(ledger, run_id, process)
    event_ids = [status.event_id for status in statuses if status.is_finished]
    if summarized := find_reported_events(ledger, event_ids, ReportStep.EVENT_FINISHED):
        store_summaries(ledger, run_id, summarized)


def build_summaries(
    run: RunEvents,
    statuses: Sequence[ProcessStatus],
    joins_of_events: Mapping[int, Sequence[str]] | None = None,
) -> Iterator[Report]:
    """
    Yield the summary of each event, if all of its processes are finished.

    :param joins_of_events: ``{event id: processes that wait for further events}``.
    """
    builder = ReportBuilder(run)
    statuses_of_events: dict[int, list[ProcessStatus]] = {position: [] for position in sorted(run.events)}
    for status in statuses:
        if status.position in statuses_of_events:
            statuses_of_events[status.position].append(status)
    for position, statuses_of_event in statuses_of_events.items():
        if not statuses_of_event:
            yield builder.no_process(position, (joins_of_events or {}).get(run.event_ids[position], ()))
        elif all(status.is_finished for status in statuses_of_event):
            yield builder.event_finished(position, statuses_of_event)


def _load_joins(ledger: Ledger, run: RunEvents) -> dict[int, list[str]]:
    processes: dict[int, list[str]] = {}
    for event_id, join_wait in joins.list_waits_of_events(ledger, list(run.event_ids.values())):
        processes.setdefault(event_id, []).append(join_wait.process)
    return processes
