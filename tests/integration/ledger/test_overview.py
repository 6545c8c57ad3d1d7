"""Events as people look at them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from event_hooks.ledger import overview
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events, accept_requests
from event_hooks.ledger.overview import EventState, EventView, Wanted
from event_hooks.ledger.processes import store_jobs, store_outcomes, store_plan, store_progress
from event_hooks.ledger.records import (
    EventRequest,
    NewEvent,
    PendingReport,
    ProcessOutcome,
    Progress,
    run_event_key,
)
from event_hooks.ledger.reports import add_reports

WEEK = timedelta(days=7)


def took_in(
    ledger: Ledger, *genomes: str, event_type: str = "new_assembly", run_id: str = "run"
) -> list[int]:
    """Take events in, each for two processes, and give their ids."""
    received = [
        NewEvent(run_event_key(run_id, at), event_type, genome, {"genome": genome}, "test")
        for at, genome in enumerate(genomes)
    ]
    processes = [[("dump_dna", "hive", "dna"), ("dump_peptide", "hive", "peptide")]] * len(received)
    answers, _ = accept_requests(ledger, [EventRequest(received, processes)], run_id, 0)
    assert isinstance(answers[0], list)
    return [entry.id for entry in answers[0]]


def end(ledger: Ledger, event_id: int, **states: str) -> None:
    """Let processes of an event end."""
    for process, state in states.items():
        store_outcomes(
            ledger, process, [ProcessOutcome(event_id, state, error=f"{process}: no disk")], "try", []
        )


def warning(text: str) -> str:
    """Give the body of a report that dump_dna does not get on."""
    return json.dumps({"message": text, "params": {"event_hooks": {"processes": ["dump_dna"]}}})


def view(ledger: Ledger, event_id: int) -> EventView:
    """Give what is seen of an event."""
    found = overview.one(ledger, event_id)
    assert found
    return found[0]


def test_an_event_goes_from_waiting_to_complete(ledger: Ledger) -> None:
    (event_id,) = took_in(ledger, "homo_sapiens")
    assert (view(ledger, event_id).state, view(ledger, event_id).is_finished) == (EventState.WAITING, False)
    store_jobs(ledger, {(event_id, "dump_dna"): 7})
    store_progress(ledger, "dump_dna", [Progress(event_id, 0, 1, 0, is_started=False)])
    assert view(ledger, event_id).state == EventState.WAITING
    store_progress(ledger, "dump_dna", [Progress(event_id, 1, 4, 0, "half")])
    first = view(ledger, event_id).processes[0].started_at
    store_progress(ledger, "dump_dna", [Progress(event_id, 2, 4, 0, "more")])
    dump_dna, dump_peptide = view(ledger, event_id).processes
    assert (dump_dna.job_id, dump_dna.done, dump_dna.total, dump_dna.message) == (7, 2, 4, "more")
    assert first
    assert dump_dna.started_at == first
    assert (dump_peptide.job_id, dump_peptide.started_at) == (None, None)
    assert view(ledger, event_id).state == EventState.RUNNING
    end(ledger, event_id, dump_dna="complete", dump_peptide="complete")
    assert (view(ledger, event_id).state, view(ledger, event_id).is_finished) == (EventState.COMPLETE, True)


def test_one_failed_process_makes_an_event_failed(ledger: Ledger) -> None:
    (event_id,) = took_in(ledger, "homo_sapiens")
    end(ledger, event_id, dump_peptide="failed")
    found = view(ledger, event_id)
    assert (found.state, found.is_finished) == (EventState.FAILED, False)
    assert found.processes[1].error == "dump_peptide: no disk"


def test_an_event_without_processes_is_over_once_it_is_planned(ledger: Ledger) -> None:
    (entry,) = accept_events(ledger, [NewEvent(run_event_key("run", 0), "other", None, {}, "test")], "run")
    assert not view(ledger, entry.id).is_finished
    store_plan(ledger, "run", [])
    assert (view(ledger, entry.id).state, view(ledger, entry.id).is_finished) == (EventState.COMPLETE, True)


def test_events_are_found_by_state_type_genome_and_run(ledger: Ledger) -> None:
    bad, good, going_on = took_in(ledger, "homo_sapiens", "homo_erectus", "mus_musculus")
    (other,) = took_in(ledger, "homo%", event_type="other", run_id="other_run")
    end(ledger, bad, dump_dna="failed", dump_peptide="complete")
    end(ledger, good, dump_dna="complete", dump_peptide="complete")
    store_plan(ledger, "run", [])
    for wanted, ids in (
        (Wanted(), [other, going_on, good, bad]),
        (Wanted(state="failed"), [bad]),
        (Wanted(state="complete"), [good]),
        (Wanted(state="open"), [other, going_on]),
        (Wanted(type="other"), [other]),
        (Wanted(genome="homo_"), [good, bad]),
        (Wanted(genome="homo%"), [other]),
        (Wanted(genome="sapiens"), []),
        (Wanted(run_id="other_run"), [other]),
        (Wanted(state="failed", genome="mus"), []),
    ):
        assert [one.id for one in overview.events(ledger, wanted)] == ids, wanted
    assert [one.id for one in overview.events(ledger, Wanted(), before=going_on, limit=1)] == [good]
    with pytest.raises(ValueError, match="state: expected open, failed or complete"):
        overview.events(ledger, Wanted(state="odd"))


def test_what_failed_or_is_held_up_needs_attention(ledger: Ledger) -> None:
    bad, good, held_up, fine = took_in(ledger, "a", "b", "c", "d")
    end(ledger, bad, dump_dna="failed")
    end(ledger, good, dump_dna="complete", dump_peptide="complete")
    warnings = [
        PendingReport(f"{event_id}{text}", event_id, "run", "report.warn", warning(text))
        for event_id in (good, held_up)
        for text in ("first", "second")
    ]
    add_reports(ledger, [*warnings, PendingReport("i", fine, "run", "report.info", "{}")])
    found = {one.id: one for one in overview.attention(ledger, WEEK)}
    assert found.keys() == {bad, held_up}
    assert found[held_up].stall_report == warning("second")
    assert found[bad].stall_report is None
    assert [one.id for one in overview.attention(ledger, timedelta(0))] == [held_up]
    assert [one.body["message"] for one in overview.reports(ledger, held_up)] == ["first", "second"]


def test_what_has_got_on_since_is_not_held_up(ledger: Ledger) -> None:
    (event_id,) = took_in(ledger, "a")
    store_progress(ledger, "dump_dna", [Progress(event_id, 0, 1, 0, is_started=False)])
    add_reports(ledger, [PendingReport("w", event_id, "run", "report.warn", warning("no_beekeeper"))])
    for same in (
        Progress(event_id, 0, 1, 0, is_started=False),
        Progress(event_id, 0, 1, 0, "words", is_started=False),
    ):
        store_progress(ledger, "dump_dna", [same])  # as after a restart of the triggerer
        store_progress(ledger, "dump_peptide", [Progress(event_id, 1, 2, 0)])  # another process
        assert [one.id for one in overview.attention(ledger, WEEK)] == [event_id]
    store_progress(ledger, "dump_dna", [Progress(event_id, 0, 1, 0)])
    assert overview.attention(ledger, WEEK) == []
    assert view(ledger, event_id).stall_report is None


def test_what_is_not_over_is_counted_for_each_hive(ledger: Ledger) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    one, two = took_in(ledger, "a", "b")
    store_progress(ledger, "dump_dna", [Progress(one, 0, 1, 0)])
    end(ledger, two, dump_dna="complete")
    (backlog,) = overview.backlogs(ledger)
    assert (backlog.hive, backlog.waiting, backlog.running) == ("hive", 2, 1)
    assert before < backlog.oldest <= datetime.now(UTC)


def test_no_event_is_none(ledger: Ledger) -> None:
    assert overview.one(ledger, 1) is None
    assert overview.events(ledger, Wanted()) == []
    assert overview.backlogs(ledger) == []
