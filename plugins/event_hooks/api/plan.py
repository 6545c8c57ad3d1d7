"""What events would do, told before they do it."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from event_hooks import settings
from event_hooks.api.intake import EventIntake, key
from event_hooks.events import lookups
from event_hooks.exceptions import HiveRejected, HiveUnreachable
from event_hooks.hive import perl
from event_hooks.hive.hook import HiveHook
from event_hooks.ledger import joins, once
from event_hooks.ledger.events import load_events_by_key
from event_hooks.process_event import planning

if TYPE_CHECKING:
    from event_hooks.events.lookups import Lookups, Process
    from event_hooks.events.models import EventBatch

log = logging.getLogger(__name__)

LATER = "(made when it is submitted)"


async def build_plan(batch: EventBatch, intake: EventIntake, name: str | None) -> list[dict[str, Any]]:
    """
    Tell for each event which processes would run, and why the others would not.

    :param name: the ``Idempotency-Key`` that it would come with.
    :return: :class:`event_hooks.api.models.PlannedEvent` of each.
    :raises EventInvalid: as :func:`event_hooks.process_event.planning.plan`.
    :raises LedgerUnreachable: whether an event is known cannot be told.
    """
    known = lookups.load_cached()
    planned = await asyncio.to_thread(planning.plan_batch, batch, known)
    keys = [key(event, at, name) for at, event in enumerate(batch.events)]
    named = [one for one in keys if one]
    entries = await asyncio.to_thread(lambda: load_events_by_key(intake.ledger(), named)) if named else {}
    done = {at: entries[one].run_id for at, one in enumerate(keys) if one in entries}
    left = planning.without(planned, done)
    claims = planning.claims({at: one.payload() for at, one in enumerate(batch.events)}, left, known)
    skipped = await asyncio.to_thread(lambda: once.holders(intake.ledger(), claims)) if claims else {}
    reasons = {key: once.why_skipped(key[1], claims[key], holder) for key, holder in skipped.items()}
    left = {
        process: [at for at in positions if (at, process) not in reasons]
        for process, positions in left.items()
    }
    reasons |= await asyncio.to_thread(_why_waiting, batch, known, intake, done)
    checks = await asyncio.gather(*(_problem(intake, known.processes[process]) for process in left))
    problems = dict(zip(left, checks, strict=True))
    mine: dict[int, list[str]] = {}
    for process, positions in left.items():
        for at in positions:
            mine.setdefault(at, []).append(process)
    return await asyncio.to_thread(
        lambda: [
            _event(at, batch, known, mine.get(at, []), problems, done, reasons)
            for at in range(len(batch.events))
        ]
    )


def _event(
    at: int,
    batch: EventBatch,
    known: Lookups,
    mine: list[str],
    problems: dict[str, tuple[bool | None, str | None]],
    done: dict[int, str | None],
    reasons: dict[tuple[int, str], str],
) -> dict[str, Any]:
    event = batch.events[at]
    job_input = {"event": event.payload(), "event_hooks": {"run_id": LATER, "token": LATER}}
    processes = [
        {
            "process": process,
            "hive": known.processes[process].hive_conn_id,
            "analysis": known.processes[process].analysis,
            "is_ready": problems[process][0],
            "problem": problems[process][1],
            "input": job_input,
            "perl": perl.dumps(job_input),
        }
        for process in mine
    ]
    others = [
        {
            "process": process,
            "reason": reasons.get((at, process)) or _reason(process, event.type, known, done.get(at)),
        }
        for process in known.processes
        if process not in mine
    ]
    return {"event": event.payload(), "processes": processes, "others": others}


def _reason(process: str, event_type: str, known: Lookups, run_id: str | None) -> str:
    if process in known.rules.processes_for(event_type):
        return f"the event is known, and not done again: run {run_id} has it"
    types = [name for name in known.types if process in known.rules.processes_for(name)]
    return f"it does not react to {event_type}, but to {', '.join(types) or 'no event'}"


def _why_waiting(
    batch: EventBatch, known: Lookups, intake: EventIntake, done: dict[int, str | None]
) -> dict[tuple[int, str], str]:
    """Tell for each event which processes wait for others: ``{(position, process): reason}``."""
    reasons = {}
    for at, event in enumerate(batch.events):
        for process, join in known.rules.joins.items():
            if event.type not in join.after or at in done:
                continue
            mine = joins.find(intake.ledger(), process, event.genome)
            there = {one.type for one in mine.came} if mine else set()
            missing = [name for name in join.after if name not in {*there, event.type}]
            until = mine.expires_at if mine else datetime.now(UTC) + timedelta(seconds=join.within)
            whose = f"for {event.genome}" if event.genome else "without a genome"
            reasons[at, process] = (
                f"it waits until {' and '.join(join.after)} have come {whose}: {' and '.join(missing)} is"
                f" missing; on {until:%Y-%m-%d %H:%M} UTC it would {_THEN[join.then]}"
                if missing
                else f"it runs, by an event of its own, because {' and '.join(join.after)} have come {whose}"
            )
    return reasons


_THEN = {"run": "run with what came", "alert": "report a warning"}


async def _problem(intake: EventIntake, process: Process) -> tuple[bool | None, str | None]:
    """Tell whether a hive takes jobs of a process, and why not."""
    question = partial(HiveHook.check, analysis=process.analysis)
    try:
        await intake.hives.ask(process.hive_conn_id, question, settings.write_through_timeout())
    except HiveRejected as error:
        log.warning("Told in a plan: %s", error)
        return False, error.public_message
    except HiveUnreachable as error:
        return None, error.public_message
    return True, None
