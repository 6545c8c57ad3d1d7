"""Plan events: return which jobs a submission would create, without a change to the ledger or the hives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from event_hooks import settings
from event_hooks.api.intake import EventIntake, find_event_key
from event_hooks.events import lookups
from event_hooks.exceptions import HiveRejected, HiveUnreachable
from event_hooks.hive import perl
from event_hooks.hive.hook import HiveHook
from event_hooks.ledger import joins, once
from event_hooks.ledger.events import load_events_by_key
from event_hooks.masking import mask_secrets
from event_hooks.process_event import planning

if TYPE_CHECKING:
    from event_hooks.events.lookups import Lookups, Process
    from event_hooks.events.models import Event, EventBatch
    from event_hooks.events.rules import JoinRule
    from event_hooks.ledger.database import Ledger

log = logging.getLogger(__name__)

PLACEHOLDER = "(set when the job is submitted)"

Reasons = dict[tuple[int, str], str]
"""``{(position, process): reason why it would not run}``."""


@dataclass(frozen=True)
class _Plan:
    """The plan of a batch, with the lookups that it was made from."""

    lookups: Lookups
    processes: Mapping[str, Collection[int]]
    """``{process: positions of the events for which it would run}``."""

    duplicates: Mapping[int, str | None]
    """``{position: id of the run that has the event}``."""

    reasons: Reasons
    checks: Mapping[str, tuple[bool | None, str | None]]
    """``{process: (is_ready, problem)}`` of its hive."""


async def build_plan(
    batch: EventBatch, intake: EventIntake, user: str, idempotency_key: str | None
) -> dict[str, Any]:
    """
    Return for each event the processes that would run, and the reasons why others would not.

    :param user: the user of the submission.
    :param idempotency_key: its header ``Idempotency-Key``, if it has one.
    :return: the fields of :class:`event_hooks.api.models.PlanResponse`.
    :raises EventInvalid: as :func:`event_hooks.process_event.planning.plan_batch`.
    :raises LedgerUnreachable: duplicates cannot be detected.
    """
    loaded = lookups.load_cached()
    planned = await asyncio.to_thread(planning.plan_batch, batch, loaded)
    duplicates = await asyncio.to_thread(_find_duplicates, batch, intake, user, idempotency_key)
    planned = planning.exclude_positions(planned, duplicates)
    reasons = await asyncio.to_thread(_find_skips, batch, planned, loaded, intake)
    processes = {
        process: {position for position in positions if (position, process) not in reasons}
        for process, positions in planned.items()
    }
    reasons |= await asyncio.to_thread(_find_joins, batch, loaded, intake, duplicates)
    checks = await asyncio.gather(
        *(_check_analysis(intake, loaded.processes[process]) for process in processes)
    )
    plan = _Plan(loaded, processes, duplicates, reasons, dict(zip(processes, checks, strict=True)))
    return await asyncio.to_thread(_format_plan, plan, batch)


def _find_duplicates(
    batch: EventBatch, intake: EventIntake, user: str, idempotency_key: str | None
) -> dict[int, str | None]:
    """Return the events that the ledger has already: ``{position: run id}``."""
    keys = {
        position: key
        for position, event in enumerate(batch.events)
        if (key := find_event_key(event, position, user, idempotency_key))
    }
    if not keys:
        return {}
    stored = load_events_by_key(intake.ledger(), list(keys.values()))
    return {position: stored[key].run_id for position, key in keys.items() if key in stored}


def _find_skips(
    batch: EventBatch, planned: Mapping[str, list[int]], loaded: Lookups, intake: EventIntake
) -> Reasons:
    """Return the processes that run once per value, and have run for an earlier event."""
    payloads = {position: event.payload() for position, event in enumerate(batch.events)}
    claims = planning.build_claims(payloads, planned, loaded)
    holders = once.find_holders(intake.ledger(), claims) if claims else {}
    return {key: once.skip_reason(key[1], claims[key], holder) for key, holder in holders.items()}


def _find_joins(
    batch: EventBatch, loaded: Lookups, intake: EventIntake, duplicates: Mapping[int, str | None]
) -> Reasons:
    """Return the processes that would wait for further events, or run for a joined event."""
    return {
        (position, process): _explain_join(intake.ledger(), process, join, event)
        for position, event in enumerate(batch.events)
        for process, join in loaded.rules.joins.items()
        if event.type in join.after and position not in duplicates
    }


def _explain_join(ledger: Ledger, process: str, join: JoinRule, event: Event) -> str:
    wait = joins.find_open_wait(ledger, process, event.genome)
    received = {event.type, *(joined.type for joined in wait.events)} if wait else {event.type}
    missing = " and ".join(name for name in join.after if name not in received)
    types = " and ".join(join.after)
    genome = f"for {event.genome}" if event.genome else "without a genome"
    if not missing:
        return f"runs for a joined event, because {types} have arrived {genome}"
    expires_at = wait.expires_at if wait else datetime.now(UTC) + timedelta(seconds=join.within)
    return (
        f"waits for {types} {genome}; missing: {missing};"
        f" times out at {expires_at:%Y-%m-%d %H:%M} UTC, then it {_TIMEOUT_ACTIONS[join.then]}"
    )


_TIMEOUT_ACTIONS = {"run": "runs with the received events", "alert": "reports a warning"}


async def _check_analysis(intake: EventIntake, process: Process) -> tuple[bool | None, str | None]:
    """Return whether a process's hive accepts jobs, ``None`` if it does not answer, and the problem."""
    check = partial(HiveHook.check_analysis, analysis=process.analysis)
    try:
        await intake.hives.run(process.hive_conn_id, check, settings.write_through_timeout())
    except HiveRejected as error:
        log.warning("A plan reports a problem: %s", error)
        return False, error.public_message
    except HiveUnreachable as error:
        return None, error.public_message
    return True, None


def _format_plan(plan: _Plan, batch: EventBatch) -> dict[str, Any]:
    return {
        "events": [_planned_event(plan, position, event) for position, event in enumerate(batch.events)],
        "not_reacting": {
            event_type: _list_not_reacting(plan.lookups, event_type)
            for event_type in sorted({event.type for event in batch.events})
        },
    }


def _list_not_reacting(loaded: Lookups, event_type: str) -> list[dict[str, str]]:
    """Return the processes that do not react to a type, each with the types that it reacts to."""
    rules, others = loaded.rules, []
    reacting = rules.processes_for(event_type)
    for process in loaded.processes:
        if process not in reacting:
            types = [name for name in loaded.event_types if process in rules.processes_for(name)]
            reason = f"does not react to {event_type}; reacts to {', '.join(types) or 'no event type'}"
            others.append({"process": process, "reason": reason})
    return others


def _planned_event(plan: _Plan, position: int, event: Event) -> dict[str, Any]:
    names = [process for process, positions in plan.processes.items() if position in positions]
    payload = mask_secrets(event.payload())
    job_input = {
        "event": payload,
        "event_hooks": {"run_id": PLACEHOLDER, "token": PLACEHOLDER},
    }
    others = [
        {"process": name, "reason": _explain(plan, position, name)}
        for name in plan.lookups.rules.processes_for(event.type)
        if name not in names
    ]
    processes = [_planned_process(plan, name) for name in names]
    return {
        "event": payload,
        "perl": perl.dumps(job_input),
        "processes": processes,
        "others": others,
    }


def _planned_process(plan: _Plan, name: str) -> dict[str, Any]:
    process = plan.lookups.processes[name]
    is_ready, problem = plan.checks[name]
    return {
        "process": name,
        "hive": process.hive_conn_id,
        "analysis": process.analysis,
        "is_ready": is_ready,
        "problem": problem,
    }


def _explain(plan: _Plan, position: int, process: str) -> str:
    """Return why a process that reacts to an event would not run for it."""
    if reason := plan.reasons.get((position, process)):
        return reason
    return f"the event is a duplicate: run {plan.duplicates.get(position)} has it"
