"""Owe reports together with what they tell of, and send what is owed."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from event_hooks import settings
from event_hooks.exceptions import ReportNotPublished
from event_hooks.following import following_events
from event_hooks.ledger.records import Outcome, OwedReport, Standing, State
from event_hooks.reports.hook import RabbitMQHook
from event_hooks.reports.report import Report, is_as_important
from event_hooks.reports.story import Story

if TYPE_CHECKING:
    from event_hooks.ledger.joins import Awaited
    from event_hooks.ledger.ledger import Ledger
    from event_hooks.ledger.records import Claims
    from event_hooks.lookups import Process


def owed(reports: Iterable[Report], run_id: str, ids: Mapping[int, int]) -> list[OwedReport]:
    """
    Make of reports what the ledger keeps, without those below the ``report_level``.

    :param ids: ``{position: event id}``.
    """
    level = settings.report_level()
    return [
        OwedReport(
            report.message_id,
            None if report.position is None else ids.get(report.position),
            run_id,
            report.routing_key,
            report.body,
        )
        for report in reports
        if is_as_important(report.report_type, level)
    ]


def settle(
    ledger: Ledger,
    story: Story,
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
        Outcome(
            ids[at],
            # Only a wait that came to its time limit tells of a job that runs.
            State.TIMED_OUT if outcome["state"] == "running" else outcome["state"],
            outcome["result"],
            outcome["error"],
            outcome.get("counts"),
        )
        for at, outcome in outcomes.items()
    ]
    reports = [story.ended(at, process, outcome, attempt) for at, outcome in outcomes.items()]
    follow_ups = {
        at: following_events(story.events[at], story.run_id, at, ids[at], process, outcome["result"], emits)
        for at, outcome in outcomes.items()
        if outcome["state"] == State.COMPLETE
    }
    reports += [
        story.not_handed_on(at, process, one.payload, one.error)
        for at, made in follow_ups.items()
        for one in made
        if one.error
    ]
    made_all = [one for made in follow_ups.values() for one in made]
    ledger.record_outcomes(process, noted, attempt, owed(reports, story.run_id, ids), made_all)


def send_owed(ledger: Ledger, hook: RabbitMQHook | None = None, *, run_id: str | None = None) -> int:
    """
    Publish the reports that are owed, of one run or of all, and count them.

    :raises ReportNotPublished: the first that the broker did not take, and all after it, are still owed.
    """
    publish = partial((hook or RabbitMQHook()).publish, exchange=settings.report_exchange())
    count = 0
    while sent := ledger.send(publish, run_id=run_id):
        count += sent
    return count


def send_all_of(ledger: Ledger, run_id: str) -> int:
    """
    Publish the reports that are owed of a run, and wait for those that somebody else is publishing.

    :raises ReportNotPublished: if some are owed still.
    """
    count, until = 0, time.monotonic() + settings.report_timeout()
    while True:
        count += send_owed(ledger, run_id=run_id)
        if not (left := ledger.count_owed(run_id)):
            return count
        if time.monotonic() > until:
            raise ReportNotPublished(f"{left} reports of this run are owed, and somebody else is sending")
        time.sleep(0.2)


def positions(ledger: Ledger, run_id: str) -> dict[int, int]:
    """Give ``{position: event id}`` of a run's events."""
    return {entry.position: entry.id for entry in ledger.events_of(run_id)}


def receive(
    ledger: Ledger,
    story: Story,
    plan: Mapping[str, Sequence[int]],
    known: Mapping[int, str],
    processes: Mapping[str, Process],
    claims: Claims,
) -> dict[str, list[int]]:
    """
    Write down what a run will do for its events, and owe the reports that they have come.

    :param plan: ``{process: positions}``.
    :param known: ``{position: run id}`` of events that are done elsewhere.
    :param claims: of what is done once.
    :return: the plan without what another event has that is done once.
    """
    ids = positions(ledger, story.run_id)
    planned = [
        Standing(ids[at], at, name, found.hive_conn_id, found.analysis)
        for name, places in plan.items()
        for found in [processes[name]]
        for at in places
    ]
    mine = {(ids[at], process): claim for (at, process), claim in claims.items()}

    def reports(skipped: Collection[tuple[int, str]]) -> list[OwedReport]:
        of: dict[int, tuple[list[str], list[str]]] = {at: ([], []) for at in story.events if at not in known}
        for one in planned:
            of[one.position][(one.event_id, one.process) in skipped].append(one.process)
        told = [story.received(at, *names) for at, names in of.items()]
        told += [story.ignored(at, first) for at, first in known.items()]
        return owed(told, story.run_id, ids)

    skipped = ledger.plan(story.run_id, planned, mine, reports)
    done = {
        process: [at for at in places if (ids[at], process) not in skipped]
        for process, places in plan.items()
    }
    return {process: places for process, places in done.items() if places}


def alert(one: Awaited) -> list[OwedReport]:
    """Make the reports that a process has waited for too long."""
    first = one.came[0]
    story = Story({"events": [first.payload]}, first.run_id, first=first.position)
    report = story.awaited_in_vain(first.position, one.process, one.types, one.missing, one.opened_at)
    return owed([report], first.run_id, {first.position: first.id})
