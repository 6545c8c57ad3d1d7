"""The task `route`: accept the events of a run, and select the processes that react to them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from event_hooks import xcom
from event_hooks.events.models import EventBatch
from event_hooks.ledger import joins
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events, load_run_events
from event_hooks.ledger.processes import load_planned_processes
from event_hooks.ledger.records import NewEvent, event_key, run_event_key
from event_hooks.process_event import planning, recording, runs
from event_hooks.reports.builder import ReportBuilder

if TYPE_CHECKING:
    from collections.abc import Collection

    from event_hooks.events.lookups import Lookups
    from event_hooks.events.models import Event

log = logging.getLogger(__name__)


def route_events(context: Any, lookups: Lookups) -> list[str]:
    """
    Accept and plan the events of a run; push the plan as XComs.

    The XCom ``plan`` is ``{process: [position of an event, …]}``; each process's positions are also an
    XCom under its name. A retry finds the events and the plan that the first attempt recorded.

    :return: the submit task of each process that reacts to one of the events.
    :raises EventInvalid: nothing is recorded.
    """
    ti, run = context["ti"], context["dag_run"]
    with xcom.push_error_xcom(ti):
        ledger = Ledger()
        planned = planning.plan_events(run.conf, lookups, load_planned_processes(ledger, run.run_id))
        duplicates = accept_run_events(ledger, run.conf, run.run_id, run.run_type.value)
        plan = planning.exclude_positions(planned, duplicates)
        _start_joined_runs(ledger, run.run_id, duplicates, lookups)
        builder = ReportBuilder(run.conf, run.run_id)
        claims = planning.build_claims(builder.events, plan, lookups)
        plan = recording.record_plan(ledger, builder, plan, duplicates, lookups.processes, claims)
    ledger.close()
    for position, first_run_id in duplicates.items():
        log.warning("Event %s is a duplicate of an event of run %s: skipped", position, first_run_id)
    ti.xcom_push("plan", plan)
    for process, positions in plan.items():
        ti.xcom_push(process, positions)
    return [planning.submit_task_id(process) for process in plan]


def accept_run_events(ledger: Ledger, conf: object, run_id: str, source: str) -> dict[int, str]:
    """
    Accept the events of a run's ``conf`` that are not assigned to the run yet.

    :param conf: of the run, with valid events.
    :return: duplicates, which are not processed again: ``{position: run id of the first event}``.
    """
    # Assigned before the run was started, or by an earlier attempt of the task
    assigned = {event.position for event in load_run_events(ledger, run_id)}
    received = {
        position: _build_new_event(event, run_id, position, source)
        for position, event in enumerate(EventBatch.from_conf(conf).events)
        if position not in assigned
    }
    accepted = accept_events(ledger, list(received.values()), run_id, list(received))
    return {
        position: event.run_id or ""
        for position, event in zip(received, accepted, strict=True)
        if (event.run_id, event.position) != (run_id, position)
    }


def _build_new_event(event: Event, run_id: str, position: int, source: str) -> NewEvent:
    event_id = event.event_id
    key = run_event_key(run_id, position) if event_id is None else event_key(event.type, event_id)
    return NewEvent(key, event.type, event.genome, event.payload(), source)


def _start_joined_runs(ledger: Ledger, run_id: str, duplicates: Collection[int], lookups: Lookups) -> None:
    """Start the run of each join that is complete with the events of this run."""
    events = [event for event in load_run_events(ledger, run_id) if event.position not in duplicates]
    for joined_run_id in joins.record_join_events(ledger, events, lookups.rules.joins, runs.JOIN_PREFIX):
        log.info("All events of a join have arrived: run %s", joined_run_id)
        runs.start_run(ledger, joined_run_id)
