"""
Compare what the ledger promises with what the hives and the reports say.

``python -m event_hooks.maintain_ledger.consistency`` (``make check-ledger``) looks at the events of the last day, prints a
line for each thing that does not fit, with what to do, and ends with 1 if there is one. It changes nothing.
What is just happening may not fit yet: ask again after a minute.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby

from event_hooks import settings
from event_hooks.events.models import EventBatch
from event_hooks.exceptions import EventHooksError, LedgerUnreachable
from event_hooks.hive import perl
from event_hooks.hive.connection import resolve_hive
from event_hooks.hive.hook import HiveHook
from event_hooks.hive.reader import HiveReader
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import list_events_without_run, list_runs_since, load_run_events
from event_hooks.ledger.processes import load_run_statuses
from event_hooks.ledger.records import ProcessStatus, State, StoredEvent, StoredReport
from event_hooks.ledger.reports import list_run_reports
from event_hooks.reports.builder import Step
from event_hooks.reports.report import METADATA_KEY

GRACE = timedelta(minutes=3)
"""For what maintain_ledger does each minute."""

SEEN = {State.COMPLETE, State.FAILED, State.STOPPED, State.MISSING}
"""States that were read from a hive."""


def faults(ledger: Ledger, since: datetime) -> Iterator[str]:
    """Say what does not fit of the events that came since then."""
    for entry in list_events_without_run(ledger, 100, GRACE):
        yield (
            f"event {entry.id} ({entry.payload.get('type')}, {entry.payload.get('genome')}) was accepted and"
            " has no run: look why maintain_ledger does not start it"
        )
    for run_id in list_runs_since(ledger, since):
        entries, standing = load_run_events(ledger, run_id), load_run_statuses(ledger, run_id)
        reports = list_run_reports(ledger, run_id)
        yield from (f"run {run_id}: {fault}" for fault in _job_faults(run_id, entries, standing))
        yield from (f"run {run_id}: {fault}" for fault in _report_faults(standing, reports))


def _job_faults(
    run_id: str, entries: Sequence[StoredEvent], standing: Sequence[ProcessStatus]
) -> Iterator[str]:
    payloads = {entry.position: entry.payload for entry in entries}
    filled = [payloads.get(at, {"type": "of another run"}) for at in range(1 + max(payloads))]
    batch = EventBatch.from_conf({"events": filled})
    for (hive, process, analysis), group in groupby(
        sorted(standing, key=_place), key=lambda one: (one.hive, one.process, one.analysis)
    ):
        ones = list(group)
        task = f"{process}.submit"
        inputs = {perl.dumps(batch.build_job_input(one.position, run_id, task)): one for one in ones}
        try:
            found = HiveHook(hive).find(analysis, list(inputs))
            visitor = HiveReader(hive, resolve_hive(hive))
            outcomes = visitor.look((), [job_id for ids in found.values() for job_id in ids]).outcomes
            visitor.close()
        except EventHooksError as error:
            yield f"{process}: {error}"
            continue
        states = {outcome.job_id: outcome.state.value for outcome in outcomes}
        for text, one in inputs.items():
            if fault := _fault(one, found.get(text, []), states):
                yield f"{process} of event {one.event_id}: {fault}"


def _place(one: ProcessStatus) -> tuple[str, str, str, int]:
    return one.hive, one.process, one.analysis, one.position


def _fault(one: ProcessStatus, job_ids: Sequence[int], states: dict[int, str]) -> str | None:
    expected = [] if one.job_id is None else [one.job_id]
    if list(job_ids) != expected:
        return f"the ledger has {_jobs(expected)}, hive {one.hive} has {_jobs(job_ids)}"
    if not job_ids:
        return None
    state = states.get(job_ids[0], "running")
    if one.state in SEEN and state != one.state:
        return (
            f"job {one.job_id} is {state} in hive {one.hive}, and {one.state} in the ledger: clear its wait"
        )
    if one.state == State.SUBMITTED and state != "running":
        return f"job {one.job_id} is {state} in hive {one.hive}, and nobody noticed: does a triggerer run?"
    return None


def _jobs(job_ids: Sequence[int]) -> str:
    return f"job {', '.join(map(str, job_ids))}" if job_ids else "no job"


def _report_faults(standing: Sequence[ProcessStatus], reports: Sequence[StoredReport]) -> Iterator[str]:
    told: dict[tuple[int | None, str], list[str]] = defaultdict(list)
    late = [one for one in reports if one.sent_at is None and datetime.now(UTC) - one.created_at > GRACE]
    for report in reports:
        about = json.loads(report.body)["params"].get(METADATA_KEY, {})
        if about.get("step") == Step.PROCESS_FINISHED:
            told[report.event_id, about["processes"][0]].append(report.routing_key)
    for one in standing:
        if one.state == State.SKIPPED:
            continue
        keys = told[one.event_id, one.process]
        wanted = (
            {"report.info", "report.warn"} if one.state == State.COMPLETE else {"report.fatal", "report.warn"}
        )
        name = f"{one.process} of event {one.event_id}"
        if one.is_finished and not keys and not _is_muted(one.state):
            yield f"{name} is {one.state}, and no report says so"
        elif one.is_finished and keys and keys[-1] not in wanted:
            yield f"{name} is {one.state}, and the last report of it went to {keys[-1]}"
        elif one.attempt is None and keys:
            yield f"{name} is not over, and {len(keys)} reports say it is"
    if late:
        first = f"{late[0].created_at:%Y-%m-%d %H:%M} UTC"
        yield f"{len(late)} reports are owed, the first since {first}: is RabbitMQ up?"


def _is_muted(state: str) -> bool:
    return state == State.COMPLETE and settings.report_level() not in ("DEBUG", "INFO")


def main() -> int:
    """Print what does not fit; 1 if there is something, 2 if the ledger cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m event_hooks.maintain_ledger.consistency", description=__doc__
    )
    parser.add_argument("--hours", type=float, default=24, help="how far to look back (default: 24)")
    since = datetime.now(UTC) - timedelta(hours=parser.parse_args().hours)
    try:
        ledger, count = Ledger(), 0
        for fault in faults(ledger, since):
            count += 1
            print(fault, flush=True)
        print(f"{len(list_runs_since(ledger, since))} runs since {since:%Y-%m-%d %H:%M} UTC, {count} faults")
    except LedgerUnreachable as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
