"""Joins, on real database servers."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from sqlalchemy import update

from event_hooks.events.rules import JoinRule
from event_hooks.exceptions import LedgerUnreachable
from event_hooks.ledger import joined_events, joins
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events, load_run_events
from event_hooks.ledger.joins import JoinWait
from event_hooks.ledger.overview import has_pending_work, needs_maintenance
from event_hooks.ledger.processes import store_plan
from event_hooks.ledger.records import NewEvent, PendingReport, StoredEvent, event_key
from event_hooks.ledger.reports import count_pending_reports
from event_hooks.ledger.tables import join_wait
from event_hooks.process_event.runs import JOIN_PREFIX

FLATFILE = JoinRule(process="dump_flatfile", after=("new_genebuild", "new_xrefs"), within=3600, then="run")
JOINS = {"dump_flatfile": FLATFILE}
NUMBERS = count()


def accept_genomes(
    ledger: Ledger, kind: str, *genomes: str | None, run_id: str | None = None
) -> list[StoredEvent]:
    """Accept events of a run, one for each genome."""
    number = next(NUMBERS)
    new_events = [
        NewEvent(
            event_key(kind, f"{number}_{position}"),
            kind,
            genome,
            {"type": kind, "genome": genome, "event_id": f"{number}_{position}", "n": position},
            "rest",
        )
        for position, genome in enumerate(genomes)
    ]
    return accept_events(ledger, new_events, run_id or f"run_{number}")


def load_joined_events(ledger: Ledger, run_ids: Sequence[str]) -> list[StoredEvent]:
    return [event for run_id in run_ids for event in load_run_events(ledger, run_id)]


def expire_joins(ledger: Ledger) -> None:
    """Move the timeout of all open joins into the past."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    ledger.write(lambda connection: connection.execute(update(join_wait).values(expires_at=past)))


def test_a_join_runs_once_per_genome_when_all_events_have_arrived(ledger: Ledger) -> None:
    first = accept_genomes(ledger, "new_genebuild", "homo_sapiens", "mus_musculus")
    assert joins.record_join_events(ledger, first, JOINS, JOIN_PREFIX) == []
    (last,) = accept_genomes(ledger, "new_xrefs", "homo_sapiens")
    (run_id,) = joins.record_join_events(ledger, [last], JOINS, JOIN_PREFIX)
    (joined,) = load_joined_events(ledger, [run_id])
    assert joined.position == 0
    assert joined.payload["type"] == "new_xrefs"
    assert joined.payload["genome"] == "homo_sapiens"
    assert joined.payload["joined"] == {
        "process": "dump_flatfile",
        "missing": [],
        "events": [first[0].payload, last.payload],
    }
    assert joined.payload["follows"] == {
        "correlation_id": f"{last.run_id}/0",
        "causation_id": f"{last.run_id}/0/dump_flatfile",
        "hops": 1,
        "chain": ["new_xrefs", "dump_flatfile"],
    }
    (join,) = joins.list_open_waits(ledger)
    assert (join.genome, join.missing) == ("mus_musculus", ["new_xrefs"])


def test_recording_an_event_twice_changes_nothing(ledger: Ledger) -> None:
    first, last = (
        accept_genomes(ledger, "new_genebuild", "homo_sapiens"),
        accept_genomes(ledger, "new_xrefs", "homo_sapiens"),
    )
    joins.record_join_events(ledger, first, JOINS, JOIN_PREFIX)
    assert len(joins.record_join_events(ledger, last, JOINS, JOIN_PREFIX)) == 1
    assert joins.record_join_events(ledger, first + last, JOINS, JOIN_PREFIX) == []
    assert joins.list_open_waits(ledger) == []


def test_events_of_one_call_are_joined_in_one_run(ledger: Ledger) -> None:
    genomes = [f"genome_{number}" for number in range(120)]
    events = accept_genomes(ledger, "new_genebuild", *genomes) + accept_genomes(ledger, "new_xrefs", *genomes)
    (run_id,) = joins.record_join_events(ledger, events, JOINS, JOIN_PREFIX)
    joined = load_run_events(ledger, run_id)
    assert [event.position for event in joined] == list(range(120))
    assert {event.payload["genome"] for event in joined} == set(genomes)


def test_two_events_of_one_type_do_not_replace_another_type(ledger: Ledger) -> None:
    for _ in range(2):
        assert (
            joins.record_join_events(
                ledger, accept_genomes(ledger, "new_genebuild", "homo_sapiens"), JOINS, JOIN_PREFIX
            )
            == []
        )
    (run_id,) = joins.record_join_events(
        ledger, accept_genomes(ledger, "new_xrefs", "homo_sapiens"), JOINS, JOIN_PREFIX
    )
    (joined,) = load_joined_events(ledger, [run_id])
    kinds = [event["type"] for event in joined.payload["joined"]["events"]]
    assert kinds == ["new_genebuild", "new_genebuild", "new_xrefs"]


def test_a_join_opens_again_after_its_run(ledger: Ledger) -> None:
    runs = []
    for kind in ("new_genebuild", "new_xrefs", "new_xrefs", "new_genebuild"):
        runs += joins.record_join_events(
            ledger, accept_genomes(ledger, kind, "homo_sapiens"), JOINS, JOIN_PREFIX
        )
    assert len(set(runs)) == 2


def test_events_without_a_genome_share_a_join(ledger: Ledger) -> None:
    joins.record_join_events(ledger, accept_genomes(ledger, "new_genebuild", None), JOINS, JOIN_PREFIX)
    (run_id,) = joins.record_join_events(
        ledger, accept_genomes(ledger, "new_xrefs", None), JOINS, JOIN_PREFIX
    )
    assert load_joined_events(ledger, [run_id])[0].payload["genome"] is None


def test_the_event_of_a_join_cannot_be_taken_by_a_guessed_event_id(ledger: Ledger) -> None:
    (first,) = accept_genomes(ledger, "new_genebuild", "homo_sapiens")
    joins.record_join_events(ledger, [first], JOINS, JOIN_PREFIX)
    (wait,) = joins.list_open_waits(ledger)
    guess = f"dump_flatfile/{wait.opened_at:%Y%m%dT%H%M%S}/{wait.id}"
    other = NewEvent(event_key("new_xrefs", guess), "new_xrefs", "other", {"type": "new_xrefs"}, "api")
    accept_events(ledger, [other], "of_another_user")
    (last,) = accept_genomes(ledger, "new_xrefs", "homo_sapiens")
    (joined,) = load_joined_events(ledger, joins.record_join_events(ledger, [last], JOINS, JOIN_PREFIX))
    assert (joined.payload["event_id"], joined.payload["genome"]) == (guess, "homo_sapiens")


def test_the_bytes_of_a_run_of_joined_events_are_limited(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joined_events, "MAX_RUN_BYTES", 1500)
    genomes = [f"g{number}" for number in range(5)]
    waiting = accept_genomes(ledger, "new_genebuild", *genomes)
    joins.record_join_events(ledger, waiting, JOINS, JOIN_PREFIX)
    last = accept_genomes(ledger, "new_xrefs", *genomes)
    run_ids = joins.record_join_events(ledger, last, JOINS, JOIN_PREFIX)
    sizes = [
        sum(len(json.dumps(event.payload)) for event in load_run_events(ledger, run_id)) for run_id in run_ids
    ]
    assert len(run_ids) > 1
    assert max(sizes) <= 1500
    assert {event.payload["genome"] for event in load_joined_events(ledger, run_ids)} == {*genomes}


def test_a_joined_event_does_not_open_a_join(ledger: Ledger) -> None:
    joins.record_join_events(
        ledger, accept_genomes(ledger, "new_genebuild", "homo_sapiens"), JOINS, JOIN_PREFIX
    )
    (run_id,) = joins.record_join_events(
        ledger, accept_genomes(ledger, "new_xrefs", "homo_sapiens"), JOINS, JOIN_PREFIX
    )
    assert joins.record_join_events(ledger, load_joined_events(ledger, [run_id]), JOINS, JOIN_PREFIX) == []
    assert joins.list_open_waits(ledger) == []


def test_concurrent_events_create_one_joined_event(ledger: Ledger, ledger_server: str) -> None:
    genomes = [f"genome_{number}" for number in range(5 if ledger_server == "sqlite" else 40)]
    calls = [
        accept_genomes(ledger, kind, *genomes) for kind in ("new_genebuild", "new_xrefs") for _ in range(3)
    ]
    barrier = threading.Barrier(len(calls))

    def record(call_events: list[StoredEvent]) -> list[str]:
        barrier.wait()
        return joins.record_join_events(ledger, call_events[::-1], JOINS, JOIN_PREFIX)

    with ThreadPoolExecutor(len(calls)) as pool:
        runs = [run_id for group in pool.map(record, calls) for run_id in group]
    events = [joined.payload["joined"]["events"] for joined in load_joined_events(ledger, runs)]
    event_ids = [event["event_id"] for group in events for event in group]
    assert len(event_ids) == len(set(event_ids))
    assert {joined.payload["genome"] for joined in load_joined_events(ledger, runs)} == set(genomes)


@pytest.mark.parametrize("then", ["run", "alert"])
def test_a_join_that_times_out_runs_or_is_reported(then: str, ledger: Ledger) -> None:
    join = FLATFILE.model_copy(update={"then": then})
    (first,) = accept_genomes(ledger, "new_genebuild", "homo_sapiens")
    joins.record_join_events(ledger, [first], {"dump_flatfile": join}, JOIN_PREFIX)
    assert joins.close_expired(ledger, lambda wait: (), JOIN_PREFIX) == []
    assert not has_pending_work_after_plan(ledger, first)
    assert not needs_maintenance(ledger)
    expire_joins(ledger)
    assert has_pending_work(ledger)
    assert needs_maintenance(ledger)
    reported: list[JoinWait] = []

    def alert(wait: JoinWait) -> list[PendingReport]:
        reported.append(wait)
        return [PendingReport("m" * 36, wait.events[0].id, "run", "report.warn", "{}")]

    runs = joins.close_expired(ledger, alert, JOIN_PREFIX)
    assert joins.close_expired(ledger, alert, JOIN_PREFIX) == joins.list_open_waits(ledger) == []
    if then == "run":
        (joined,) = load_joined_events(ledger, runs)
        assert joined.payload["joined"]["missing"] == ["new_xrefs"]
        assert (reported, count_pending_reports(ledger)) == ([], 0)
    else:
        assert (runs, count_pending_reports(ledger)) == ([], 1)
        assert reported[0].missing == ["new_xrefs"]


def has_pending_work_after_plan(ledger: Ledger, event: StoredEvent) -> bool:
    assert event.run_id
    store_plan(ledger, event.run_id, ())
    return has_pending_work(ledger)


def test_an_event_lists_the_joins_that_wait_with_it(ledger: Ledger) -> None:
    (first,) = accept_genomes(ledger, "new_genebuild", "homo_sapiens")
    (last,) = accept_genomes(ledger, "new_xrefs", "homo_sapiens")
    joins.record_join_events(ledger, [first], JOINS, JOIN_PREFIX)
    ((event_id, wait),) = joins.list_waits_of_events(ledger, [first.id, last.id])
    assert (event_id, wait.event_id, wait.missing) == (first.id, None, ["new_xrefs"])
    (run_id,) = joins.record_join_events(ledger, [last], JOINS, JOIN_PREFIX)
    waits = joins.list_waits_of_events(ledger, [first.id, last.id])
    assert {wait.event_id for _, wait in waits} == {load_joined_events(ledger, [run_id])[0].id}


def test_genomes_that_differ_in_trailing_spaces_have_separate_joins(ledger: Ledger) -> None:
    genomes = ("homo_sapiens", "homo_sapiens ")
    joins.record_join_events(ledger, accept_genomes(ledger, "new_genebuild", *genomes), JOINS, JOIN_PREFIX)
    for genome in genomes:
        wait = joins.find_open_wait(ledger, "dump_flatfile", genome)
        assert wait
        assert (wait.genome, wait.missing) == (genome, ["new_xrefs"])
    last = accept_genomes(ledger, "new_xrefs", genomes[1])
    (joined,) = load_joined_events(ledger, joins.record_join_events(ledger, last, JOINS, JOIN_PREFIX))
    assert [event["genome"] for event in joined.payload["joined"]["events"]] == [genomes[1], genomes[1]]
    assert [wait.genome for wait in joins.list_open_waits(ledger)] == [genomes[0]]


@pytest.mark.parametrize("ledger_server", ["mysql"])
def test_a_join_that_cannot_be_locked_is_an_error(ledger: Ledger) -> None:
    first, second = accept_genomes(ledger, "new_genebuild", "homo_sapiens", "homo_sapiens")
    joins.record_join_events(ledger, [first], JOINS, JOIN_PREFIX)
    # MySQL treats the two names as equal; the schema of the process lookup permits no spaces.
    rule = FLATFILE.model_copy(update={"process": "dump_flatfile "})
    with pytest.raises(LedgerUnreachable, match="was not locked in 20 attempts"):
        joins.record_join_events(ledger, [second], {rule.process: rule}, JOIN_PREFIX)
