"""
Record plans, jobs, progress, stalls, late processes and outcomes of the events of a run; the only writer.

Each function stores its facts together with their reports, follow-up events and notifications in one
transaction, and is idempotent, so every step can be retried.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from event_hooks.follow_ups.build import build_follow_ups
from event_hooks.hive.sql.job_trees import JobState
from event_hooks.ledger.lateness import store_late
from event_hooks.ledger.outcomes import store_outcomes
from event_hooks.ledger.processes import reject_events, store_jobs, store_plan
from event_hooks.ledger.progress import Stalls, store_progress, store_stalls
from event_hooks.ledger.records import PendingReport, ProcessOutcome, ProcessState, ProcessStatus
from event_hooks.ledger.reports import store_reports
from event_hooks.masking import mask_secrets, mask_text
from event_hooks.notifications.notifiers import list_notifiers
from event_hooks.notifier_settings import NotificationKind
from event_hooks.reports.builder import ReportBuilder
from event_hooks.reports.outbox import to_pending

if TYPE_CHECKING:
    from event_hooks.hive.sql.outcomes import JobOutcome
    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.lateness import LateProcess
    from event_hooks.ledger.records import FollowUpEvent, OnceClaims, ProgressUpdate, RunEvents
    from event_hooks.reports.report import Report


@dataclass(frozen=True)
class Plan:
    """The plan of a run, before it is stored."""

    processes: Sequence[ProcessStatus]
    """The processes of its events."""

    claims: OnceClaims
    """By event id."""

    rejected: Mapping[int, str]
    """``{position: reason}`` of the events that are rejected."""

    duplicates: Mapping[int, str]
    """``{position: run id}`` of events of the run's ``conf`` that another run has."""


def record_plan(ledger: Ledger, run: RunEvents, plan: Plan) -> None:
    """
    Record the processes of a run's events, and which events are rejected.

    :param run: all events of the run, and the duplicates in its ``conf``.
    """
    builder = ReportBuilder(run)

    def build_reports(skipped: Collection[tuple[int, str]]) -> list[PendingReport]:
        reports = [
            *_build_received(builder, plan, skipped),
            *(builder.duplicate(position, run_id) for position, run_id in plan.duplicates.items()),
            *(builder.rejected(position, reason) for position, reason in plan.rejected.items()),
        ]
        return to_pending(reports, run.run_id)

    rejected = {run.event_ids[position]: mask_text(reason) for position, reason in plan.rejected.items()}
    notifiers = list_notifiers(NotificationKind.FAILED)
    store_plan(ledger, run.run_id, plan.processes, plan.claims, rejected, build_reports, notifiers)


def _build_received(
    builder: ReportBuilder, plan: Plan, skipped: Collection[tuple[int, str]]
) -> Iterator[Report]:
    names: dict[int, tuple[list[str], list[str]]] = {
        position: ([], [])
        for position in builder.run.events
        if position not in plan.duplicates and position not in plan.rejected
    }
    for status in plan.processes:
        planned_names, skipped_names = names[status.position]
        is_skipped = (status.event_id, status.process) in skipped
        (skipped_names if is_skipped else planned_names).append(status.process)
    for position, (planned_names, skipped_names) in names.items():
        yield builder.received(position, planned_names, skipped_names)


def record_rejections(ledger: Ledger, run: RunEvents, reasons: Mapping[int, str]) -> None:
    """
    Record that events of a run are rejected.

    :param reasons: ``{position: reason}``.
    """
    builder = ReportBuilder(run)
    reports = [builder.rejected(position, reason) for position, reason in reasons.items()]
    by_event = {run.event_ids[position]: mask_text(reason) for position, reason in reasons.items()}
    notifiers = list_notifiers(NotificationKind.FAILED)
    reject_events(ledger, run.run_id, by_event, to_pending(reports, run.run_id), notifiers)


def record_jobs(ledger: Ledger, run: RunEvents, process: str, jobs: Mapping[int, int]) -> None:
    """
    Record the jobs of a process.

    :param jobs: ``{position: job id}``.
    """
    rows = {(run.event_ids[position], process): job_id for position, job_id in jobs.items()}
    store_jobs(ledger, rows, _build_submitted(run, process, jobs))


def report_jobs(ledger: Ledger, run: RunEvents, process: str, jobs: Mapping[int, int]) -> None:
    """Report jobs of a process that the API server has recorded, without reports; idempotent."""
    store_reports(ledger, _build_submitted(run, process, jobs))


def _build_submitted(run: RunEvents, process: str, jobs: Mapping[int, int]) -> list[PendingReport]:
    builder = ReportBuilder(run)
    reports = [builder.submitted(position, process, job_id) for position, job_id in jobs.items()]
    return to_pending(reports, run.run_id)


def record_progress(
    ledger: Ledger, run: RunEvents, process: str, updates: Sequence[ProgressUpdate], report: Report | None
) -> None:
    """Record the progress of job trees of a process, with one report on all of them, if it is time for it."""
    store_progress(ledger, process, updates, to_pending([report] if report else [], run.run_id))


def record_stalls(
    ledger: Ledger,
    run: RunEvents,
    process: str,
    jobs: Mapping[int, int],
    stalls: Mapping[int, Mapping[str, str]],
) -> None:
    """
    Record the present stalls of a process, with one WARN report on each new stall.

    :param jobs: ``{position: job id}`` of the job trees that were checked.
    :param stalls: ``{position: {Stall.key: text}}``.
    """
    stalls = {position: mask_secrets(texts) for position, texts in stalls.items()}
    positions = {run.event_ids[position]: position for position in jobs}

    def build_reports(new: Stalls) -> list[PendingReport]:
        positions_by_key: dict[str, list[int]] = {}
        for event_id, texts in new.items():
            for key in texts:
                positions_by_key.setdefault(key, []).append(positions[event_id])
        return to_pending(
            [
                _build_stall_report(ReportBuilder(run), process, key, sorted(affected), jobs, stalls)
                for key, affected in positions_by_key.items()
            ],
            run.run_id,
        )

    by_event = {run.event_ids[position]: texts for position, texts in stalls.items()}
    notifiers = list_notifiers(NotificationKind.STALLED)
    store_stalls(ledger, process, list(positions), by_event, build_reports, notifiers)


def _build_stall_report(
    builder: ReportBuilder,
    process: str,
    key: str,
    positions: Sequence[int],
    jobs: Mapping[int, int],
    stalls: Mapping[int, Mapping[str, str]],
) -> Report:
    kind = key.partition(":")[0]
    text = stalls[positions[0]][key]
    return builder.stalled(positions, process, jobs[positions[0]], kind, text, f"{key} {_now()}")


def _now() -> str:
    """Return the time, which distinguishes the reports on a condition that passes and returns."""
    return datetime.now(UTC).isoformat()


def record_late(ledger: Ledger, run: RunEvents, process: str, seconds: float) -> None:
    """
    Record that a process of a run is late, with one WARN report under the first of its unfinished events.

    :param seconds: its deadline, from the plan on.
    """

    def build_reports(late: Sequence[LateProcess]) -> list[PendingReport]:
        first = late[0]
        report = ReportBuilder(run).late(first.position, process, first.job_id, len(late), seconds)
        return to_pending([report], run.run_id)

    store_late(ledger, run.run_id, process, build_reports, list_notifiers(NotificationKind.LATE))


def record_outcomes(
    ledger: Ledger,
    run: RunEvents,
    process: str,
    outcomes: Mapping[int, JobOutcome],
    attempt: str,
    emits: Sequence[str] = (),
) -> None:
    """
    Record the outcomes of jobs, with their reports and follow-up events.

    :param outcomes: by position.
    :param attempt: id of the task instance that waited for the jobs.
    :param emits: types of the follow-up events of a success.
    """
    builder = ReportBuilder(run)
    follow_ups = _build_follow_ups(run, process, outcomes, emits)
    reports = [
        *(
            builder.process_finished(position, process, outcome.as_dict(), attempt)
            for position, outcome in outcomes.items()
        ),
        *_build_rejected(builder, process, follow_ups),
    ]
    store_outcomes(
        ledger,
        process,
        [_to_process_outcome(run.event_ids[position], outcome) for position, outcome in outcomes.items()],
        attempt,
        to_pending(reports, run.run_id),
        [follow_up for follow_ups_of_event in follow_ups.values() for follow_up in follow_ups_of_event],
        list_notifiers(NotificationKind.FAILED),
    )


def _build_follow_ups(
    run: RunEvents, process: str, outcomes: Mapping[int, JobOutcome], emits: Sequence[str]
) -> dict[int, list[FollowUpEvent]]:
    return {
        position: build_follow_ups(
            run.events[position].payload(),
            run.run_id,
            position,
            run.event_ids[position],
            process,
            outcome.result,
            emits,
            run.correlation_ids.get(position),
        )
        for position, outcome in outcomes.items()
        if outcome.state is JobState.COMPLETE
    }


def _build_rejected(
    builder: ReportBuilder, process: str, follow_ups: Mapping[int, Sequence[FollowUpEvent]]
) -> Iterator[Report]:
    for position, follow_ups_of_event in follow_ups.items():
        for follow_up in follow_ups_of_event:
            if follow_up.error:
                yield builder.follow_up_rejected(position, process, follow_up.payload, follow_up.error)


def _to_process_outcome(event_id: int, outcome: JobOutcome) -> ProcessOutcome:
    # Only a wait that reached its timeout has an outcome of a running job.
    is_running = outcome.state is JobState.RUNNING
    state = ProcessState.TIMED_OUT if is_running else ProcessState(outcome.state)
    error = mask_text(outcome.error) if outcome.error else None
    return ProcessOutcome(event_id, state, mask_secrets(outcome.result), error, outcome.counts)


def record_missing_outcomes(
    ledger: Ledger, run: RunEvents, errors: Mapping[ProcessStatus, str], *, is_user_decision: bool = False
) -> None:
    """
    Record that the outcomes of processes are not known: no job was submitted, or its outcome was not read.

    :param errors: ``{process of an event: reason}``.
    :param is_user_decision: whether a user has stopped the process before, or marked its tasks as success:
        no notification, and if there is a job, a WARN instead of a FATAL.
    """
    builder = ReportBuilder(run)
    notifiers = () if is_user_decision else list_notifiers(NotificationKind.FAILED)
    for status, error in errors.items():
        attempt = status.attempt or ""
        if status.job_id is None:
            state = ProcessState.NOT_SUBMITTED
            report = builder.not_submitted(status.position, status.process, error, _now())
        else:
            state = ProcessState.UNKNOWN
            report = builder.outcome_unknown(
                status.position,
                status.process,
                status.job_id,
                error,
                attempt,
                is_user_decision=is_user_decision,
            )
        outcome = ProcessOutcome(status.event_id, state, None, mask_text(error))
        reports = to_pending([report], run.run_id)
        store_outcomes(ledger, status.process, [outcome], attempt, reports, notifiers=notifiers)
