"""Record plans and outcomes together with their reports and follow-up events, each in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from event_hooks.follow_ups.build import build_follow_ups
from event_hooks.ledger.events import load_run_events
from event_hooks.ledger.processes import store_outcomes, store_plan
from event_hooks.ledger.records import PendingReport, ProcessOutcome, ProcessStatus, State
from event_hooks.reports.outbox import to_pending

if TYPE_CHECKING:
    from event_hooks.events.lookups import Process
    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.records import OnceClaims
    from event_hooks.reports.builder import ReportBuilder


def record_plan(
    ledger: Ledger,
    story: ReportBuilder,
    plan: Mapping[str, Sequence[int]],
    known: Mapping[int, str],
    processes: Mapping[str, Process],
    claims: OnceClaims,
) -> dict[str, list[int]]:
    """
    Write down what a run will do for its events, and owe the reports that they have come.

    :param plan: ``{process: positions}``.
    :param known: ``{position: run id}`` of events that are done elsewhere.
    :param claims: of what is done once.
    :return: the plan without what another event has that is done once.
    """
    ids = load_event_ids(ledger, story.run_id)
    planned = [
        ProcessStatus(ids[at], at, name, found.hive_conn_id, found.analysis)
        for name, places in plan.items()
        for found in [processes[name]]
        for at in places
    ]
    mine = {(ids[at], process): claim for (at, process), claim in claims.items()}

    def reports(skipped: Collection[tuple[int, str]]) -> list[PendingReport]:
        of: dict[int, tuple[list[str], list[str]]] = {at: ([], []) for at in story.events if at not in known}
        for one in planned:
            of[one.position][(one.event_id, one.process) in skipped].append(one.process)
        told = [story.received(at, *names) for at, names in of.items()]
        told += [story.duplicate(at, first) for at, first in known.items()]
        return to_pending(told, story.run_id, ids)

    skipped = store_plan(ledger, story.run_id, planned, mine, reports)
    done = {
        process: [at for at in places if (ids[at], process) not in skipped]
        for process, places in plan.items()
    }
    return {process: places for process, places in done.items() if places}


def record_outcomes(
    ledger: Ledger,
    story: ReportBuilder,
    process: str,
    ids: Mapping[int, int],
    outcomes: Mapping[int, Mapping[str, Any]],
    attempt: str,
    emits: Sequence[str] = (),
) -> None:
    """
    Write down how jobs have ended, and owe the reports and the events that follow, in one transaction.

    :param ids: ``{position: event id}``.
    :param outcomes: ``{position: {"job_id", "state", "result", "error"}}``, and ``"counts"`` if known.
    :param emits: types of the events that follow from a success.
    """
    noted = [
        ProcessOutcome(
            ids[at],
            # Only a wait that came to its time limit tells of a job that runs.
            State.TIMED_OUT if outcome["state"] == "running" else outcome["state"],
            outcome["result"],
            outcome["error"],
            outcome.get("counts"),
        )
        for at, outcome in outcomes.items()
    ]
    reports = [story.process_finished(at, process, outcome, attempt) for at, outcome in outcomes.items()]
    follow_ups = {
        at: build_follow_ups(story.events[at], story.run_id, at, ids[at], process, outcome["result"], emits)
        for at, outcome in outcomes.items()
        if outcome["state"] == State.COMPLETE
    }
    reports += [
        story.follow_up_rejected(at, process, one.payload, one.error)
        for at, made in follow_ups.items()
        for one in made
        if one.error
    ]
    made_all = [one for made in follow_ups.values() for one in made]
    store_outcomes(ledger, process, noted, attempt, to_pending(reports, story.run_id, ids), made_all)


def load_event_ids(ledger: Ledger, run_id: str) -> dict[int, int]:
    """Give ``{position: event id}`` of a run's events."""
    return {entry.position: entry.id for entry in load_run_events(ledger, run_id)}
