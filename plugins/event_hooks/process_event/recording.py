"""Store plans and outcomes together with their reports and follow-up events, each in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from event_hooks.follow_ups.build import build_follow_ups
from event_hooks.ledger.events import load_run_events
from event_hooks.ledger.processes import store_outcomes, store_plan
from event_hooks.ledger.records import PendingReport, ProcessOutcome, ProcessState, ProcessStatus
from event_hooks.reports.outbox import to_pending

if TYPE_CHECKING:
    from event_hooks.events.lookups import Process
    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.records import FollowUpEvent, OnceClaims
    from event_hooks.reports.builder import ReportBuilder
    from event_hooks.reports.report import Report


def record_plan(
    ledger: Ledger,
    builder: ReportBuilder,
    plan: Mapping[str, Sequence[int]],
    duplicates: Mapping[int, str],
    processes: Mapping[str, Process],
    claims: OnceClaims,
) -> dict[str, list[int]]:
    """
    Store the processes of a run's events, with the reports that the events were received; idempotent.

    :param plan: ``{process: positions}``.
    :param duplicates: ``{position: run id}`` of events that another run processes.
    :param claims: of processes that run once for the same values.
    :return: the plan without processes that another event has claimed.
    """
    event_ids = load_event_ids(ledger, builder.run_id)
    planned = _build_statuses(plan, processes, event_ids)

    def build_reports(skipped: Collection[tuple[int, str]]) -> list[PendingReport]:
        reports = [
            *_build_received(builder, planned, duplicates, skipped),
            *(builder.duplicate(position, run_id) for position, run_id in duplicates.items()),
        ]
        return to_pending(reports, builder.run_id, event_ids)

    claims_of_events = {
        (event_ids[position], process): claim for (position, process), claim in claims.items()
    }
    skipped = store_plan(ledger, builder.run_id, planned, claims_of_events, build_reports)
    remaining = {
        process: [position for position in positions if (event_ids[position], process) not in skipped]
        for process, positions in plan.items()
    }
    return {process: positions for process, positions in remaining.items() if positions}


def _build_statuses(
    plan: Mapping[str, Sequence[int]], processes: Mapping[str, Process], event_ids: Mapping[int, int]
) -> list[ProcessStatus]:
    return [
        ProcessStatus(
            event_ids[position], position, name, processes[name].hive_conn_id, processes[name].analysis
        )
        for name, positions in plan.items()
        for position in positions
    ]


def _build_received(
    builder: ReportBuilder,
    planned: Sequence[ProcessStatus],
    duplicates: Collection[int],
    skipped: Collection[tuple[int, str]],
) -> Iterator[Report]:
    names: dict[int, tuple[list[str], list[str]]] = {
        position: ([], []) for position in builder.events if position not in duplicates
    }
    for status in planned:
        planned_names, skipped_names = names[status.position]
        is_skipped = (status.event_id, status.process) in skipped
        (skipped_names if is_skipped else planned_names).append(status.process)
    for position, (planned_names, skipped_names) in names.items():
        yield builder.received(position, planned_names, skipped_names)


def record_outcomes(
    ledger: Ledger,
    builder: ReportBuilder,
    process: str,
    event_ids: Mapping[int, int],
    outcomes: Mapping[int, Mapping[str, Any]],
    attempt: str,
    emits: Sequence[str] = (),
) -> None:
    """
    Store the outcomes of jobs, with their reports and follow-up events, in one transaction; idempotent.

    :param event_ids: ``{position: event id}``.
    :param outcomes: ``{position: {"job_id", "state", "result", "error"}}``, and ``"counts"`` if available.
    :param attempt: id of the task instance that waited for the jobs.
    :param emits: types of the follow-up events of a success.
    """
    follow_ups = _build_follow_ups(builder, process, event_ids, outcomes, emits)
    reports = [
        *(
            builder.process_finished(position, process, outcome, attempt)
            for position, outcome in outcomes.items()
        ),
        *_build_rejected(builder, process, follow_ups),
    ]
    store_outcomes(
        ledger,
        process,
        [_parse_outcome(event_ids[position], outcome) for position, outcome in outcomes.items()],
        attempt,
        to_pending(reports, builder.run_id, event_ids),
        [follow_up for follow_ups_of_event in follow_ups.values() for follow_up in follow_ups_of_event],
    )


def _build_follow_ups(
    builder: ReportBuilder,
    process: str,
    event_ids: Mapping[int, int],
    outcomes: Mapping[int, Mapping[str, Any]],
    emits: Sequence[str],
) -> dict[int, list[FollowUpEvent]]:
    return {
        position: build_follow_ups(
            builder.events[position],
            builder.run_id,
            position,
            event_ids[position],
            process,
            outcome["result"],
            emits,
        )
        for position, outcome in outcomes.items()
        if outcome["state"] == ProcessState.COMPLETE
    }


def _build_rejected(
    builder: ReportBuilder, process: str, follow_ups: Mapping[int, Sequence[FollowUpEvent]]
) -> Iterator[Report]:
    for position, follow_ups_of_event in follow_ups.items():
        for follow_up in follow_ups_of_event:
            if follow_up.error:
                yield builder.follow_up_rejected(position, process, follow_up.payload, follow_up.error)


def _parse_outcome(event_id: int, outcome: Mapping[str, Any]) -> ProcessOutcome:
    # Only a wait that reached its timeout has an outcome of a running job.
    state = ProcessState.TIMED_OUT if outcome["state"] == "running" else outcome["state"]
    return ProcessOutcome(event_id, state, outcome["result"], outcome["error"], outcome.get("counts"))


def load_event_ids(ledger: Ledger, run_id: str) -> dict[int, int]:
    """Return ``{position: event id}`` of a run's events."""
    return {event.position: event.id for event in load_run_events(ledger, run_id)}
