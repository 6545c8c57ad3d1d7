"""
Compare the ledger with the jobs in the hives and with the reports.

``python -m event_hooks.maintain_ledger.consistency`` (``make check-ledger``) checks the events of the
last day. It prints a line for each inconsistency, with the next step, and exits with 1 if it finds any.
It changes nothing. Work in progress can look inconsistent: check again after a minute.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby

from event_hooks import settings
from event_hooks.events.models import EventBatch
from event_hooks.exceptions import EventHooksError, LedgerUnreachable
from event_hooks.hive import perl
from event_hooks.hive.connection import resolve_hive
from event_hooks.hive.hook import HiveHook
from event_hooks.hive.reader import HiveReader
from event_hooks.ledger.clock import load_time
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import list_runs_since, list_unplanned_events, load_run_events
from event_hooks.ledger.processes import list_open_runs, load_run_statuses
from event_hooks.ledger.records import ProcessState, ProcessStatus, StoredEvent, StoredReport
from event_hooks.ledger.reports import list_run_reports
from event_hooks.process_event.planning import submit_task_id
from event_hooks.reports.advice import build_retry_advice
from event_hooks.reports.builder import ReportStep
from event_hooks.reports.report import METADATA_KEY

GRACE = timedelta(minutes=3)
"""Age from which work that `maintain_ledger` resumes is overdue; it runs about each minute meanwhile."""

MAX_UNPLANNED_EVENTS = 100
"""Unplanned events that are listed, the oldest first."""

HIVE_STATES = {ProcessState.COMPLETE, ProcessState.FAILED, ProcessState.STOPPED, ProcessState.MISSING}
"""States that were read from a hive."""

SUCCESS_KEYS = {"report.info", "report.warn"}
FAILURE_KEYS = {"report.fatal", "report.warn"}
"""Routing keys of the last report of a finished process."""


def find_inconsistencies(ledger: Ledger, since: datetime) -> Iterator[str]:
    """Yield a sentence for each inconsistency of the events since an instant."""
    for event in list_unplanned_events(ledger, MAX_UNPLANNED_EVENTS, GRACE):
        name = f"event {event.id} ({event.payload.get('type')}, {event.payload.get('genome')})"
        yield (
            f"run {event.run_id}: {name} is not planned: see the log of the run's task route; maintain_ledger"
            " starts a run that is missing, and its log has the error if it cannot"
        )
    open_runs = list_open_runs(ledger, GRACE)
    for run_id in list_runs_since(ledger, since):
        events, statuses = load_run_events(ledger, run_id), load_run_statuses(ledger, run_id)
        reports = list_run_reports(ledger, run_id)
        yield from (f"run {run_id}: {text}" for text in _compare_jobs(run_id, events, statuses))
        if run_id in open_runs:
            yield from (f"run {run_id}: {text}" for text in _list_without_wait(statuses))
        now = load_time(ledger)
        yield from (f"run {run_id}: {text}" for text in _compare_reports(statuses, reports, now))


def _compare_jobs(
    run_id: str, events: Sequence[StoredEvent], statuses: Sequence[ProcessStatus]
) -> Iterator[str]:
    batch = _build_batch(events)
    for (hive, process, analysis), group in groupby(sorted(statuses, key=_sort_key), key=_analysis_key):
        task_id = submit_task_id(process)
        inputs = {
            perl.dumps(batch.build_job_input(status.position, run_id, task_id, status.rerun)): status
            for status in group
        }
        try:
            jobs = HiveHook(hive).find_jobs(analysis, list(inputs))
            states = _load_job_states(hive, [job_id for job_ids in jobs.values() for job_id in job_ids])
        except EventHooksError as error:
            yield f"{process}: {error}"
            continue
        for job_input, status in inputs.items():
            if text := _compare_job(status, jobs.get(job_input, []), states):
                yield f"{process} of event {status.event_id}: {text}"


def _build_batch(events: Sequence[StoredEvent]) -> EventBatch:
    """Return the events at their positions of the run; events of other runs fill the remaining positions."""
    payloads = {event.position: event.payload for event in events}
    positions = range(1 + max(payloads))
    filled = [payloads.get(position, {"type": "of another run"}) for position in positions]
    return EventBatch.from_conf({"events": filled})


def _sort_key(status: ProcessStatus) -> tuple[str, str, str, int]:
    return *_analysis_key(status), status.position


def _analysis_key(status: ProcessStatus) -> tuple[str, str, str]:
    return status.hive, status.process, status.analysis


def _load_job_states(hive: str, job_ids: Sequence[int]) -> dict[int, str]:
    """Return the state of each finished job."""
    reader = HiveReader(hive, resolve_hive(hive))
    outcomes = reader.read_changes((), dict.fromkeys(job_ids)).outcomes
    reader.close()
    return {outcome.job_id: outcome.state.value for outcome in outcomes}


def _compare_job(status: ProcessStatus, job_ids: Sequence[int], states: dict[int, str]) -> str | None:
    expected = [] if status.job_id is None else [status.job_id]
    if list(job_ids) != expected:
        return f"the ledger has {_format_jobs(expected)}, hive {status.hive} has {_format_jobs(job_ids)}"
    if not job_ids:
        return None
    state = states.get(job_ids[0], "running")
    text = f"job {status.job_id} is {state} in hive {status.hive}, and {status.state} in the ledger"
    if status.state in HIVE_STATES and state != status.state:
        return f"{text}: {build_retry_advice(status.process, 'wait')}"
    if status.state == ProcessState.SUBMITTED and state != "running":
        return f"{text}: check that a triggerer is running"
    return None


def _format_jobs(job_ids: Sequence[int]) -> str:
    return f"job {', '.join(map(str, job_ids))}" if job_ids else "no job"


def _compare_reports(
    statuses: Sequence[ProcessStatus], reports: Sequence[StoredReport], now: datetime
) -> Iterator[str]:
    routing_keys = _list_routing_keys(reports)
    for status in statuses:
        text = _compare_report(status, routing_keys[status.event_id, status.process])
        if status.state != ProcessState.SKIPPED and text:
            yield f"{status.process} of event {status.event_id} is {text}"
    pending = [report for report in reports if report.sent_at is None]
    rejected = [report for report in pending if report.rejected_reason]
    if rejected:
        yield f"{len(rejected)} reports are not in a queue, the first because {rejected[0].rejected_reason}"
    overdue = [report for report in pending if now - report.created_at > GRACE and report not in rejected]
    if overdue:
        first = f"{overdue[0].created_at:%Y-%m-%d %H:%M} UTC"
        yield f"{len(overdue)} reports are pending, the first since {first}: check that RabbitMQ is running"


def _list_without_wait(statuses: Sequence[ProcessStatus]) -> Iterator[str]:
    for status in statuses:
        if status.state == ProcessState.SUBMITTED and (status.attempt is None or status.is_retry_requested):
            yield (
                f"no task waits for {status.process} of event {status.event_id}: see GET /event-hooks/health,"
                " which shows whether process_event is paused, and whether Airflow runs"
            )


def _list_routing_keys(reports: Sequence[StoredReport]) -> dict[tuple[int | None, str], list[str]]:
    """Return the routing keys of the reports of finished processes: ``{(event id, process): keys}``."""
    routing_keys: dict[tuple[int | None, str], list[str]] = defaultdict(list)
    for report in reports:
        metadata = report.body["params"].get(METADATA_KEY, {})
        if metadata.get("step") == ReportStep.PROCESS_FINISHED:
            routing_keys[report.event_id, metadata["processes"][0]].append(report.routing_key)
    return routing_keys


def _compare_report(status: ProcessStatus, routing_keys: Sequence[str]) -> str | None:
    expected = SUCCESS_KEYS if status.state == ProcessState.COMPLETE else FAILURE_KEYS
    if status.is_finished and not routing_keys and not _is_below_report_level(status.state):
        return f"{status.state}, and has no report of its outcome"
    if status.is_finished and routing_keys and routing_keys[-1] not in expected:
        return f"{status.state}, and its last report has the routing key {routing_keys[-1]}"
    if status.attempt is None and routing_keys:
        return f"unfinished, and has {len(routing_keys)} reports of an outcome"
    return None


def _is_below_report_level(state: str) -> bool:
    return state == ProcessState.COMPLETE and settings.report_level() not in ("DEBUG", "INFO")


def main() -> int:
    """Print the inconsistencies; return 1 if there are any, 2 if the ledger cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m event_hooks.maintain_ledger.consistency", description=__doc__
    )
    parser.add_argument("--hours", type=float, default=24, help="age of the oldest events (default: 24)")
    hours = timedelta(hours=parser.parse_args().hours)
    try:
        ledger, count = Ledger(), 0
        since = load_time(ledger) - hours
        for text in find_inconsistencies(ledger, since):
            count += 1
            print(text, flush=True)
        run_count = len(list_runs_since(ledger, since))
    except LedgerUnreachable as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{run_count} runs since {since:%Y-%m-%d %H:%M} UTC, {count} faults")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
