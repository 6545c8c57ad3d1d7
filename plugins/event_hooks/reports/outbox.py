"""Owe reports together with what they tell of, and send what is owed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from event_hooks import settings
from event_hooks.exceptions import ReportNotPublished
from event_hooks.ledger.records import Outcome, OwedReport, Standing, State
from event_hooks.reports.hook import RabbitMQHook
from event_hooks.reports.report import Report, is_as_important

if TYPE_CHECKING:
    from event_hooks.ledger.ledger import Ledger
    from event_hooks.lookups import Process
    from event_hooks.reports.story import Story


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
) -> None:
    """
    Write down how jobs have ended, and owe the reports of it, in one transaction.

    :param ids: ``{position: event id}``.
    :param outcomes: ``{position: {"job_id", "state", "result", "error"}}``, and ``"counts"`` if known.
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
    ledger.record_outcomes(process, noted, attempt, owed(reports, story.run_id, ids))


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
) -> None:
    """
    Write down what a run will do for its events, and owe the reports that they have come.

    :param plan: ``{process: positions}``.
    :param known: ``{position: run id}`` of events that are done elsewhere.
    """
    ids = positions(ledger, story.run_id)
    planned = [
        Standing(ids[at], at, name, processes[name].hive_conn_id, processes[name].analysis)
        for name, places in plan.items()
        for at in places
    ]
    of: dict[int, list[str]] = {at: [] for at in range(len(story.events)) if at not in known}
    for one in planned:
        of[one.position].append(one.process)
    reports = [story.received(at, names) for at, names in of.items()]
    reports += [story.ignored(at, first) for at, first in known.items()]
    ledger.plan(story.run_id, planned, owed(reports, story.run_id, ids))
