"""The views of events for the board and the API."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Column, update

from event_hooks.ledger import overview
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events, accept_requests
from event_hooks.ledger.follow_ups import insert_follow_ups
from event_hooks.ledger.outcomes import store_outcomes
from event_hooks.ledger.processes import reject_events, store_jobs, store_plan
from event_hooks.ledger.progress import store_progress, store_stalls
from event_hooks.ledger.records import (
    EventRequest,
    FollowUpEvent,
    NewEvent,
    PendingReport,
    ProcessOutcome,
    ProgressUpdate,
    run_event_key,
)
from event_hooks.ledger.reports import store_reports
from event_hooks.ledger.tables import event, follow_up, report
from event_hooks.ledger.views import EventFilter, EventState, EventView

WEEK = timedelta(days=7)


def accept_genomes(
    ledger: Ledger,
    *genomes: str,
    event_type: str = "new_assembly",
    run_id: str = "run",
    processes: Sequence[str] = ("dump_dna", "dump_peptide"),
) -> list[int]:
    """Accept events with these processes each, and return their ids."""
    new_events = [
        NewEvent(run_event_key(run_id, position), event_type, genome, {"genome": genome}, "test")
        for position, genome in enumerate(genomes)
    ]
    places = [[(name, "hive", name.removeprefix("dump_")) for name in processes]] * len(new_events)
    results, _ = accept_requests(ledger, [EventRequest(new_events, places)], run_id, 0)
    assert isinstance(results[0], list)
    return [event.id for event in results[0]]


def finish(ledger: Ledger, event_id: int, **states: str) -> None:
    """Store the outcomes of processes of an event."""
    for process, state in states.items():
        store_outcomes(
            ledger, process, [ProcessOutcome(event_id, state, error=f"{process}: no disk")], "try", []
        )


def load_view(ledger: Ledger, event_id: int) -> EventView:
    """Return the view of an event."""
    view = overview.load_event_view(ledger, event_id)
    assert view
    return view[0]


def test_an_event_goes_from_waiting_to_complete(ledger: Ledger) -> None:
    (event_id,) = accept_genomes(ledger, "homo_sapiens")
    assert (load_view(ledger, event_id).state, load_view(ledger, event_id).is_finished) == (
        EventState.WAITING,
        False,
    )
    store_jobs(ledger, {(event_id, "dump_dna"): 7})
    store_progress(ledger, "dump_dna", [ProgressUpdate(event_id, 0, 1, 0, is_started=False)])
    assert load_view(ledger, event_id).state == EventState.WAITING
    store_progress(ledger, "dump_dna", [ProgressUpdate(event_id, 1, 4, 0, "half")])
    first = load_view(ledger, event_id).processes[0].started_at
    store_progress(ledger, "dump_dna", [ProgressUpdate(event_id, 2, 4, 0, "more")])
    dump_dna, dump_peptide = load_view(ledger, event_id).processes
    assert (dump_dna.job_id, dump_dna.done, dump_dna.total, dump_dna.message) == (7, 2, 4, "more")
    assert first
    assert dump_dna.started_at == first
    assert (dump_peptide.job_id, dump_peptide.started_at) == (None, None)
    assert load_view(ledger, event_id).state == EventState.RUNNING
    finish(ledger, event_id, dump_dna="complete", dump_peptide="complete")
    assert (load_view(ledger, event_id).state, load_view(ledger, event_id).is_finished) == (
        EventState.COMPLETE,
        True,
    )


def test_one_failed_process_makes_an_event_failed(ledger: Ledger) -> None:
    (event_id,) = accept_genomes(ledger, "homo_sapiens")
    finish(ledger, event_id, dump_peptide="failed")
    failed_view = load_view(ledger, event_id)
    assert (failed_view.state, failed_view.is_finished) == (EventState.FAILED, False)
    assert failed_view.processes[1].error == "dump_peptide: no disk"


def test_an_event_without_processes_finishes_when_it_is_planned(ledger: Ledger) -> None:
    (event,) = accept_events(ledger, [NewEvent(run_event_key("run", 0), "other", None, {}, "test")], "run")
    assert not load_view(ledger, event.id).is_finished
    store_plan(ledger, "run", [])
    assert (load_view(ledger, event.id).state, load_view(ledger, event.id).is_finished) == (
        EventState.COMPLETE,
        True,
    )


def test_events_are_found_by_state_type_genome_and_run(ledger: Ledger) -> None:
    failed, complete, running = accept_genomes(ledger, "homo_sapiens", "homo_erectus", "mus_musculus")
    (other,) = accept_genomes(ledger, "homo%", event_type="other", run_id="other_run")
    finish(ledger, failed, dump_dna="failed", dump_peptide="complete")
    finish(ledger, complete, dump_dna="complete", dump_peptide="complete")
    store_plan(ledger, "run", [])
    for event_filter, event_ids in (
        (EventFilter(), [other, running, complete, failed]),
        (EventFilter(state="failed"), [failed]),
        (EventFilter(state="complete"), [complete]),
        (EventFilter(state="open"), [other, running]),
        (EventFilter(type="other"), [other]),
        (EventFilter(genome="homo_"), [complete, failed]),
        (EventFilter(genome="homo%"), [other]),
        (EventFilter(genome="sapiens"), []),
        (EventFilter(run_id="other_run"), [other]),
        (EventFilter(state="failed", genome="mus"), []),
    ):
        assert [event.id for event in overview.list_events(ledger, event_filter)] == event_ids, event_filter
    assert [
        event.id for event in overview.list_events(ledger, EventFilter(), before_id=running, limit=1)
    ] == [complete]
    with pytest.raises(ValueError, match="state: expected open, failed or complete"):
        overview.list_events(ledger, EventFilter(state="odd"))


def test_failed_and_stalled_events_need_attention(ledger: Ledger) -> None:
    failed, complete, stalled, running = accept_genomes(ledger, "a", "b", "c", "d")
    finish(ledger, failed, dump_dna="failed")
    finish(ledger, complete, dump_dna="complete", dump_peptide="complete")
    store_stalls(ledger, "dump_dna", [stalled], {stalled: {"no_beekeeper: x": "no beekeeper"}}, lambda _: ())
    events = {item.id: item for item in overview.list_events_needing_attention(ledger, WEEK)}
    assert events.keys() == {failed, stalled}
    assert [process.stall_texts for process in events[stalled].processes] == [["no beekeeper"], []]
    assert (events[stalled].is_stalled, events[failed].is_stalled) == (True, False)
    assert [item.id for item in overview.list_events_needing_attention(ledger, timedelta(0))] == [stalled]


def test_a_stall_that_has_passed_needs_no_attention(ledger: Ledger) -> None:
    (event_id,) = accept_genomes(ledger, "a")
    for stalls in ({event_id: {"no_beekeeper: x": "no beekeeper"}}, {}):
        store_stalls(ledger, "dump_dna", [event_id], stalls, lambda _: ())
        attention = [event.id for event in overview.list_events_needing_attention(ledger, WEEK)]
        assert attention == list(stalls)


def test_rejected_events_are_failures_that_need_attention(ledger: Ledger) -> None:
    rejected, other = accept_genomes(ledger, "a", "b", processes=())
    reject_events(ledger, "run", {rejected: "no such type"}, ())
    (view,) = overview.list_events_needing_attention(ledger, WEEK)
    assert (view.state, view.is_finished, view.rejected_reason) == ("rejected", True, "no such type")
    for state, event_ids in (("failed", [rejected]), ("complete", []), ("open", [other])):
        assert [item.id for item in overview.list_events(ledger, EventFilter(state=state))] == event_ids


def test_unfinished_processes_are_counted_per_hive(ledger: Ledger) -> None:
    start = datetime.now(UTC) - timedelta(seconds=1)
    first_id, second_id = accept_genomes(ledger, "a", "b")
    store_progress(ledger, "dump_dna", [ProgressUpdate(first_id, 0, 1, 0)])
    finish(ledger, second_id, dump_dna="complete")
    (backlog,) = overview.load_backlogs(ledger)
    assert (backlog.hive, backlog.waiting, backlog.running) == ("hive", 2, 1)
    assert start < backlog.oldest <= datetime.now(UTC)


def test_an_empty_ledger_has_no_events(ledger: Ledger) -> None:
    assert overview.load_event_view(ledger, 1) is None
    assert overview.list_events(ledger, EventFilter()) == []
    assert overview.load_backlogs(ledger) == []


def make_older(ledger: Ledger, *columns: Column[Any]) -> None:
    """Move times back by the age from which work is left to `maintain_ledger`."""
    with ledger.transaction() as connection:
        for column in columns:
            older = datetime.now(UTC) - 2 * overview.MAINTENANCE_AGE
            connection.execute(update(column.table).values({column: older}))


def test_maintenance_is_needed_for_old_unfinished_work_only(ledger: Ledger) -> None:
    def make_old_and_check() -> tuple[bool, bool]:
        """Return whether maintenance is needed for the work while it is new, and when it is old."""
        is_needed = overview.needs_maintenance(ledger)
        make_older(ledger, event.c.received_at, report.c.created_at, follow_up.c.created_at)
        return is_needed, overview.needs_maintenance(ledger)

    assert make_old_and_check() == (False, False)
    (event_id,) = accept_genomes(ledger, "g", processes=["dump"])
    assert make_old_and_check() == (False, True)  # it has no plan
    store_plan(ledger, "run")
    assert overview.needs_maintenance(ledger)  # its process is not finished
    finish(ledger, event_id, dump="complete")
    store_reports(ledger, [PendingReport("m0", None, "run", "report.info", "{}")])
    assert make_old_and_check() == (False, True)
    with ledger.transaction() as connection:
        connection.execute(update(report).values(retry_at=datetime.now(UTC) + WEEK))
    assert not overview.needs_maintenance(ledger)  # the broker has returned the report
    with ledger.transaction() as connection:
        insert_follow_ups(connection, [FollowUpEvent(event_id, "dump", 0, {})])
    assert make_old_and_check() == (False, True)
