"""The task `route`: accept the events of a run, plan them, and select the processes that react to them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from event_hooks import xcom
from event_hooks.events.models import Event, EventBatch
from event_hooks.exceptions import EventInvalid, TasksNotScheduled
from event_hooks.ledger import joins
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events, close_run, load_run_events
from event_hooks.ledger.processes import load_run_statuses
from event_hooks.ledger.records import (
    NewEvent,
    ProcessState,
    ProcessStatus,
    RunEvents,
    StoredEvent,
    event_key,
    run_event_key,
)
from event_hooks.process_event import planning, recording, runs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from event_hooks.events.lookups import Lookups
    from event_hooks.ledger.records import OnceClaims

log = logging.getLogger(__name__)


def route_events(context: Any, lookups: Lookups) -> list[str]:
    """
    Accept and plan the events of a run.

    The events are those that the ledger has assigned to the run. A run that a user triggered has events in
    its ``conf``, and they are accepted first; the ``conf`` of a run with an id of event hooks is ignored.

    An accepted event keeps its plan; only events without one are planned with the lookups. An event that
    cannot be planned is rejected, and the other events of the run are processed. A retry finds what the
    first attempt recorded.

    :return: the submit task of each process that reacts to one of the events.
    :raises EventInvalid: the ``conf`` is invalid; nothing is recorded.
    :raises TasksNotScheduled: the run does not have the tasks of a process yet; a retry can help.
    """
    ti, dag_run = context["ti"], context["dag_run"]
    with xcom.push_error_xcom(ti):
        ledger = Ledger()
        duplicates = accept_conf(ledger, dag_run, lookups)
        close_run(ledger, dag_run.run_id)
        stored = _load_events(ledger, dag_run)
        run = RunEvents.from_stored(dag_run.run_id, stored)
        rejected = _record_plan(ledger, run, stored, duplicates, lookups)
        _start_joined_runs(ledger, [event for event in stored if event.position not in rejected], lookups)
        processes = _select_processes(ledger, run, context)
        ledger.close()
    return [planning.submit_task_id(process) for process in processes]


@dataclass(frozen=True)
class Duplicate:
    """An event of a run's ``conf`` that another run has."""

    event: Event
    first_run_id: str


def accept_conf(ledger: Ledger, dag_run: Any, lookups: Lookups) -> dict[int, Duplicate]:
    """
    Accept the events of a run's ``conf``, and return the duplicates by position; idempotent.

    :raises EventInvalid: the ``conf`` is invalid; nothing is recorded.
    """
    run_id = dag_run.run_id
    if _is_in_ledger(dag_run):
        return {}
    batch = EventBatch.from_conf(dag_run.conf)
    assigned = {event.position for event in load_run_events(ledger, run_id)}
    if not assigned:
        planning.plan_batch(batch, lookups)  # an invalid event rejects the conf as a whole
    received = {
        position: _build_new_event(event, run_id, position, dag_run.run_type.value)
        for position, event in enumerate(batch.events)
        if position not in assigned
    }
    accepted = accept_events(ledger, list(received.values()), run_id, list(received))
    duplicates = {
        position: Duplicate(batch.events[position], event.run_id or "")
        for position, event in zip(received, accepted, strict=True)
        if (event.run_id, event.position) != (run_id, position)
    }
    for position, duplicate in duplicates.items():
        log.warning("Event %s is a duplicate of an event of run %s", position, duplicate.first_run_id)
    return duplicates


def _is_in_ledger(dag_run: Any) -> bool:
    """Return whether the ledger alone has the events of a run, so that its ``conf`` is not read."""
    return runs.is_own(dag_run.run_id) or runs.is_reference(dag_run.conf)


def _build_new_event(event: Event, run_id: str, position: int, source: str) -> NewEvent:
    event_id = event.event_id
    key = run_event_key(run_id, position) if event_id is None else event_key(event.type, event_id)
    return NewEvent(key, event.type, event.genome, event.payload(), source)


def _load_events(ledger: Ledger, dag_run: Any) -> list[StoredEvent]:
    """
    Return the events that the ledger has assigned to a run.

    :raises EventInvalid: the ledger alone has the events of the run, and has none.
    """
    stored = load_run_events(ledger, dag_run.run_id)
    if not stored and _is_in_ledger(dag_run):
        expected = f"expected events in the ledger for run {dag_run.run_id}: send the events instead"
        raise EventInvalid(runs.REFERENCE_KEY, expected)
    return stored


def _record_plan(
    ledger: Ledger,
    run: RunEvents,
    stored: Sequence[StoredEvent],
    duplicates: Mapping[int, Duplicate],
    lookups: Lookups,
) -> Collection[int]:
    """Plan and record the events that have no plan; return the positions of those that are rejected."""
    statuses = load_run_statuses(ledger, run.run_id)
    planned = {status.position for status in statuses}
    planner = _Planner(run, lookups)
    for event in stored:
        is_planned = event.position in planned or (event.is_planned and event.rejected_reason is None)
        if not is_planned:
            planner.plan(event.position)
    duplicate_events = {position: duplicate.event for position, duplicate in duplicates.items()}
    plan = recording.Plan(
        processes=[*statuses, *planner.processes],
        claims=planner.build_claims(),
        rejected=planner.rejected,
        duplicates={position: duplicate.first_run_id for position, duplicate in duplicates.items()},
    )
    reported = replace(run, events={**run.events, **duplicate_events})
    recording.record_plan(ledger, reported, plan)
    return planner.rejected


@dataclass
class _Planner:
    """Select the processes of events one by one, with the lookups."""

    run: RunEvents
    lookups: Lookups
    processes: list[ProcessStatus] = field(default_factory=list)
    rejected: dict[int, str] = field(default_factory=dict)
    """``{position: reason}``."""

    def plan(self, position: int) -> None:
        """Add the processes of an event, or reject it."""
        try:
            names = self.lookups.select_names(self.run.events[position])
        except EventInvalid as error:
            log.error("Event %s is rejected: %s", position, error)  # noqa: TRY400 (the message is complete)
            self.rejected[position] = str(error)
            return
        for name in names:
            place = self.lookups.find_place(name)
            self.processes.append(ProcessStatus(self.run.event_ids[position], position, *place))

    def build_claims(self) -> OnceClaims:
        """Return the claims of the added processes, by event id."""
        positions: dict[str, list[int]] = {}
        for status in self.processes:
            positions.setdefault(status.process, []).append(status.position)
        payloads = {status.position: self.run.events[status.position].payload() for status in self.processes}
        claims = planning.build_claims(payloads, positions, self.lookups)
        return {
            (self.run.event_ids[position], process): claim for (position, process), claim in claims.items()
        }


def _start_joined_runs(ledger: Ledger, events: Iterable[StoredEvent], lookups: Lookups) -> None:
    """Start the run of each join that is complete with these events."""
    for run_id in joins.record_join_events(ledger, events, lookups.rules.joins, runs.JOIN_PREFIX):
        log.info("All events of a join have arrived: run %s", run_id)
        try:
            runs.start_run(ledger, run_id)
        except RuntimeError as error:
            log.warning("%s; maintain_ledger retries", error)


def _select_processes(ledger: Ledger, run: RunEvents, context: Any) -> list[str]:
    """
    Return the planned processes whose tasks the run has.

    A process whose tasks are neither in the run nor in the DAG file is failed.

    :raises TasksNotScheduled: the DAG file has the tasks, and the run does not have them yet. The scheduler
        adds them when Airflow has serialized the DAG file, which is up to a minute after a change.
    """
    statuses = [
        status for status in load_run_statuses(ledger, run.run_id) if status.state != ProcessState.SKIPPED
    ]
    processes = sorted({status.process for status in statuses})
    in_run = _load_task_ids(context["ti"], run.run_id)
    missing = [process for process in processes if planning.submit_task_id(process) not in in_run]
    expected = [process for process in missing if context["dag"].has_task(planning.submit_task_id(process))]
    errors = {
        status: f"the DAG has no tasks for {status.process} any more: it was removed from the process lookup"
        for status in statuses
        if status.process in missing and status.process not in expected and not status.is_finished
    }
    recording.record_missing_outcomes(ledger, run, errors)
    if expected:
        raise TasksNotScheduled(expected)
    return [process for process in processes if process not in missing]


def _load_task_ids(ti: Any, run_id: str) -> set[str]:
    """Return the ids of the tasks that the scheduler has created for a run."""
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[run_id]).get(run_id, {})
    return {task_id for task_id, state in states.items() if state != "removed"}
