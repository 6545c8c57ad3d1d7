"""The task `route`: the plan of each event, events that are rejected, and tasks that the run has not."""

from __future__ import annotations

from typing import Any

import pytest

from event_hooks.events.lookups import Lookups
from event_hooks.exceptions import EventInvalid, RunClosed, TasksNotScheduled
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_requests, load_run_events
from event_hooks.ledger.overview import list_events
from event_hooks.ledger.processes import load_run_statuses, store_jobs
from event_hooks.ledger.records import EventRequest, NewEvent, ProcessState
from event_hooks.ledger.views import EventFilter, EventState
from event_hooks.process_event.route import route_events
from tests.integration.process_event.conftest import (
    ANALYSIS,
    RUN_ID,
    TASKS,
    accept,
    build_lookups,
    list_rejected,
    list_reports,
    load_states,
)
from tests.support.task_instances import RunOfTasks

ASSEMBLY: dict[str, Any] = {"type": "new_assembly"}
DUMP = ("dump", "hive_a", ANALYSIS)
LOOKUPS = build_lookups({"new_assembly": ["dump"]}, [DUMP])


def route(run: RunOfTasks, lookups: Lookups = LOOKUPS) -> list[str]:
    return route_events(run.build_context("route"), lookups)


def build_native_run(*events: dict[str, Any], **kwargs: Any) -> RunOfTasks:
    return RunOfTasks(RUN_ID, {"events": list(events)}, dict.fromkeys(TASKS), **kwargs)


def test_an_accepted_event_keeps_its_plan(ledger: Ledger) -> None:
    run = accept(ledger, [(ASSEMBLY, [DUMP])])
    moved = build_lookups({"new_assembly": ["dump"]}, [("dump", "hive_b", "other")])
    assert route(run, moved) == ["dump.submit"]
    (status,) = load_run_statuses(ledger, RUN_ID)
    assert (status.hive, status.analysis) == ("hive_a", ANALYSIS)


def test_a_type_that_left_the_lookup_affects_no_accepted_event(ledger: Ledger) -> None:
    run = accept(ledger, [(ASSEMBLY, [DUMP]), ({"type": "old"}, [DUMP])])
    assert route(run) == ["dump.submit"]
    assert load_states(ledger) == {(0, "dump"): "planned", (1, "dump"): "planned"}
    assert list_rejected(ledger) == {}


def test_an_event_that_cannot_be_planned_rejects_no_other_event(ledger: Ledger) -> None:
    """The first attempt of a run that a user triggered has accepted the events, and was killed."""
    run = build_native_run(ASSEMBLY, {"type": "old"}, ASSEMBLY)
    both = build_lookups({"new_assembly": ["dump"], "old": ["dump"]}, [DUMP])
    run.states = {}
    with pytest.raises(TasksNotScheduled):
        route(run, both)
    with ledger.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM event_process")
        connection.exec_driver_sql("UPDATE event SET planned_at = NULL")
    run.states = dict.fromkeys(TASKS)
    assert route(run) == ["dump.submit"]
    assert load_states(ledger) == {(0, "dump"): "planned", (2, "dump"): "planned"}
    assert list_rejected(ledger) == {1: "type: expected one of new_assembly, not 'old'"}
    assert ("report.fatal", "rejected") in list_reports(ledger)


def test_a_rejected_event_is_planned_when_route_is_cleared(ledger: Ledger) -> None:
    test_an_event_that_cannot_be_planned_rejects_no_other_event(ledger)
    both = build_lookups({"new_assembly": ["dump"], "old": ["dump"]}, [DUMP])
    assert route(build_native_run(ASSEMBLY, {"type": "old"}, ASSEMBLY), both) == ["dump.submit"]
    assert (list_rejected(ledger), len(load_states(ledger))) == ({}, 3)


def test_an_invalid_conf_records_nothing(ledger: Ledger) -> None:
    run = build_native_run(ASSEMBLY, {"type": "unknown"})
    with pytest.raises(EventInvalid, match=r"events\[1\].type: expected one of new_assembly"):
        route(run)
    assert load_run_events(ledger, RUN_ID) == []
    assert "events[1].type" in run.xcoms["route", "error"]


def test_a_run_waits_for_the_tasks_of_a_new_process(ledger: Ledger) -> None:
    """The DAG file has the tasks, and the run gets them when Airflow has serialized the file."""
    run = accept(ledger, [(ASSEMBLY, [DUMP, ("new", "hive_a", ANALYSIS)])])
    run.dag_tasks = {*TASKS, "new.submit", "new.wait"}
    with pytest.raises(TasksNotScheduled, match="the run has no tasks yet for new"):
        route(run)
    assert load_states(ledger) == {(0, "dump"): "planned", (0, "new"): "planned"}
    run.states |= {"new.submit": None, "new.wait": None}
    assert route(run) == ["dump.submit", "new.submit"]
    assert [step for _, step in list_reports(ledger)] == ["received"]


def test_a_process_whose_tasks_are_gone_is_failed_with_that_reason(ledger: Ledger) -> None:
    run = accept(ledger, [(ASSEMBLY, [DUMP, ("gone", "hive_a", ANALYSIS)]), (ASSEMBLY, [DUMP])])
    store_jobs(ledger, {(load_run_events(ledger, RUN_ID)[0].id, "gone"): 7})
    assert route(run) == ["dump.submit"]
    states = load_states(ledger)
    assert states.pop((0, "gone")) == ProcessState.UNKNOWN
    assert set(states.values()) == {"planned"}
    (status,) = [status for status in load_run_statuses(ledger, RUN_ID) if status.process == "gone"]
    assert "the DAG has no tasks for gone any more" in str(status.error)


def test_no_event_is_stored_in_a_run_that_has_read_its_events(ledger: Ledger) -> None:
    route(accept(ledger, [(ASSEMBLY, [DUMP])]))
    late = NewEvent("late", "new_assembly", "g", {"type": "new_assembly"}, "api")
    with pytest.raises(RunClosed):
        accept_requests(ledger, [EventRequest([late], [[DUMP]])], RUN_ID, 1)
    assert len(load_run_events(ledger, RUN_ID)) == 1


def test_a_run_that_refers_to_the_ledger_needs_events_there(ledger: Ledger) -> None:
    run = accept(ledger, [])
    with pytest.raises(EventInvalid, match=r"ledger: expected events in the ledger for run a_run"):
        route(run)


@pytest.mark.parametrize("run_id", ["api__1", "joined__1", "collect__1"])
def test_the_conf_of_a_run_of_event_hooks_is_ignored(ledger: Ledger, run_id: str) -> None:
    """A user has started the run before event hooks did, with events in its conf."""
    own = NewEvent("key", "new_assembly", "mine", {**ASSEMBLY, "genome": "mine"}, "api")
    accept_requests(ledger, [EventRequest([own], [[DUMP]])], run_id, 0)
    other = {**ASSEMBLY, "genome": "other"}
    run = RunOfTasks(run_id, {"events": [other, other]}, dict.fromkeys(TASKS))
    assert route(run) == ["dump.submit"]
    assert [event.payload["genome"] for event in load_run_events(ledger, run_id)] == ["mine"]


def test_a_run_of_event_hooks_without_events_fails_and_records_nothing(ledger: Ledger) -> None:
    with pytest.raises(EventInvalid, match=r"ledger: expected events in the ledger for run joined__1"):
        route(RunOfTasks("joined__1", ASSEMBLY, dict.fromkeys(TASKS)))
    assert load_run_events(ledger, "joined__1") == []


def test_the_board_finds_rejected_events_among_the_failed(ledger: Ledger) -> None:
    test_an_event_that_cannot_be_planned_rejects_no_other_event(ledger)
    (view,) = list_events(ledger, EventFilter(state="failed"))
    assert (view.type, view.state, view.is_finished) == ("old", EventState.REJECTED, True)
    assert view.rejected_reason == "type: expected one of new_assembly, not 'old'"
    assert list_events(ledger, EventFilter(state="complete")) == []
