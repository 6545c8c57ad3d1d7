"""What waits for several events, on real servers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from sqlalchemy import update

from event_hooks.events.rules import JoinRule
from event_hooks.ledger import joins
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events, load_run_events
from event_hooks.ledger.joins import JoinWait
from event_hooks.ledger.overview import has_pending_work
from event_hooks.ledger.processes import store_plan
from event_hooks.ledger.records import NewEvent, PendingReport, StoredEvent, event_key
from event_hooks.ledger.reports import count_pending_reports
from event_hooks.ledger.tables import join_wait
from event_hooks.process_event.runs import JOIN_PREFIX

FLATFILE = JoinRule(process="dump_flatfile", after=("new_genebuild", "new_xrefs"), within=3600, then="run")
JOINS = {"dump_flatfile": FLATFILE}
NUMBERS = count()


def came(ledger: Ledger, kind: str, *genomes: str | None, run_id: str | None = None) -> list[StoredEvent]:
    """Write down events of a run."""
    number = next(NUMBERS)
    received = [
        NewEvent(
            event_key(kind, f"{number}_{at}"),
            kind,
            genome,
            {"type": kind, "genome": genome, "event_id": f"{number}_{at}", "n": at},
            "rest",
        )
        for at, genome in enumerate(genomes)
    ]
    return accept_events(ledger, received, run_id or f"run_{number}")


def made(ledger: Ledger, run_ids: Sequence[str]) -> list[StoredEvent]:
    return [entry for run_id in run_ids for entry in load_run_events(ledger, run_id)]


def be_late(ledger: Ledger) -> None:
    """Let the time of all that waits be over."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    ledger.write(lambda connection: connection.execute(update(join_wait).values(expires_at=past)))


def test_a_process_runs_once_for_each_genome_when_all_have_come(ledger: Ledger) -> None:
    first = came(ledger, "new_genebuild", "homo_sapiens", "mus_musculus")
    assert joins.note(ledger, first, JOINS, JOIN_PREFIX) == []
    (last,) = came(ledger, "new_xrefs", "homo_sapiens")
    (run_id,) = joins.note(ledger, [last], JOINS, JOIN_PREFIX)
    (entry,) = made(ledger, [run_id])
    assert entry.position == 0
    assert entry.payload["type"] == "new_xrefs"
    assert entry.payload["genome"] == "homo_sapiens"
    assert entry.payload["joined"] == {
        "process": "dump_flatfile",
        "missing": [],
        "events": [first[0].payload, last.payload],
    }
    assert entry.payload["follows"] == {
        "correlation_id": f"{last.run_id}/0",
        "causation_id": f"{last.run_id}/0/dump_flatfile",
        "hops": 1,
        "chain": ["new_xrefs", "dump_flatfile"],
    }
    (waiting,) = joins.waiting(ledger)
    assert (waiting.genome, waiting.missing) == ("mus_musculus", ["new_xrefs"])


def test_noting_an_event_again_changes_nothing(ledger: Ledger) -> None:
    first, last = came(ledger, "new_genebuild", "homo_sapiens"), came(ledger, "new_xrefs", "homo_sapiens")
    joins.note(ledger, first, JOINS, JOIN_PREFIX)
    assert len(joins.note(ledger, last, JOINS, JOIN_PREFIX)) == 1
    assert joins.note(ledger, first + last, JOINS, JOIN_PREFIX) == []
    assert joins.waiting(ledger) == []


def test_all_in_one_call_are_joined_in_one_run(ledger: Ledger) -> None:
    genomes = [f"genome_{n}" for n in range(120)]
    entries = came(ledger, "new_genebuild", *genomes) + came(ledger, "new_xrefs", *genomes)
    (run_id,) = joins.note(ledger, entries, JOINS, JOIN_PREFIX)
    found = load_run_events(ledger, run_id)
    assert [entry.position for entry in found] == list(range(120))
    assert {entry.payload["genome"] for entry in found} == set(genomes)


def test_the_same_type_twice_does_not_stand_for_another(ledger: Ledger) -> None:
    for _ in range(2):
        assert joins.note(ledger, came(ledger, "new_genebuild", "homo_sapiens"), JOINS, JOIN_PREFIX) == []
    (run_id,) = joins.note(ledger, came(ledger, "new_xrefs", "homo_sapiens"), JOINS, JOIN_PREFIX)
    (entry,) = made(ledger, [run_id])
    kinds = [one["type"] for one in entry.payload["joined"]["events"]]
    assert kinds == ["new_genebuild", "new_genebuild", "new_xrefs"]


def test_after_it_has_run_it_waits_anew(ledger: Ledger) -> None:
    runs = []
    for kind in ("new_genebuild", "new_xrefs", "new_xrefs", "new_genebuild"):
        runs += joins.note(ledger, came(ledger, kind, "homo_sapiens"), JOINS, JOIN_PREFIX)
    assert len(set(runs)) == 2


def test_events_without_a_genome_wait_together(ledger: Ledger) -> None:
    joins.note(ledger, came(ledger, "new_genebuild", None), JOINS, JOIN_PREFIX)
    (run_id,) = joins.note(ledger, came(ledger, "new_xrefs", None), JOINS, JOIN_PREFIX)
    assert made(ledger, [run_id])[0].payload["genome"] is None


def test_what_was_made_of_events_is_no_event_to_wait_for(ledger: Ledger) -> None:
    joins.note(ledger, came(ledger, "new_genebuild", "homo_sapiens"), JOINS, JOIN_PREFIX)
    (run_id,) = joins.note(ledger, came(ledger, "new_xrefs", "homo_sapiens"), JOINS, JOIN_PREFIX)
    assert joins.note(ledger, made(ledger, [run_id]), JOINS, JOIN_PREFIX) == []
    assert joins.waiting(ledger) == []


def test_many_at_once_make_one_event(ledger: Ledger, server: str) -> None:
    genomes = [f"genome_{n}" for n in range(5 if server == "sqlite" else 40)]
    calls = [came(ledger, kind, *genomes) for kind in ("new_genebuild", "new_xrefs") for _ in range(3)]
    begin = threading.Barrier(len(calls))

    def note(entries: list[StoredEvent]) -> list[str]:
        begin.wait()
        return joins.note(ledger, entries[::-1], JOINS, JOIN_PREFIX)

    with ThreadPoolExecutor(len(calls)) as pool:
        runs = [run_id for some in pool.map(note, calls) for run_id in some]
    events = [entry.payload["joined"]["events"] for entry in made(ledger, runs)]
    used = [one["event_id"] for some in events for one in some]
    assert len(used) == len(set(used))
    assert {entry.payload["genome"] for entry in made(ledger, runs)} == set(genomes)


@pytest.mark.parametrize("then", ["run", "alert"])
def test_when_the_time_is_over_it_runs_or_people_are_told(then: str, ledger: Ledger) -> None:
    join = FLATFILE.model_copy(update={"then": then})
    (first,) = came(ledger, "new_genebuild", "homo_sapiens")
    joins.note(ledger, [first], {"dump_flatfile": join}, JOIN_PREFIX)
    assert joins.end_late(ledger, lambda one: (), JOIN_PREFIX) == []
    assert not has_late_work(ledger, first)
    be_late(ledger)
    assert has_pending_work(ledger)
    told: list[JoinWait] = []

    def alert(one: JoinWait) -> list[PendingReport]:
        told.append(one)
        return [PendingReport("m" * 36, one.came[0].id, "run", "report.warn", "{}")]

    runs = joins.end_late(ledger, alert, JOIN_PREFIX)
    assert joins.end_late(ledger, alert, JOIN_PREFIX) == joins.waiting(ledger) == []
    if then == "run":
        (entry,) = made(ledger, runs)
        assert entry.payload["joined"]["missing"] == ["new_xrefs"]
        assert (told, count_pending_reports(ledger)) == ([], 0)
    else:
        assert (runs, count_pending_reports(ledger)) == ([], 1)
        assert told[0].missing == ["new_xrefs"]


def has_late_work(ledger: Ledger, entry: StoredEvent) -> bool:
    assert entry.run_id
    store_plan(ledger, entry.run_id, ())
    return has_pending_work(ledger)


def test_an_event_tells_what_waits_with_it(ledger: Ledger) -> None:
    (first,) = came(ledger, "new_genebuild", "homo_sapiens")
    (last,) = came(ledger, "new_xrefs", "homo_sapiens")
    joins.note(ledger, [first], JOINS, JOIN_PREFIX)
    ((event_id, one),) = joins.waiting_for(ledger, [first.id, last.id])
    assert (event_id, one.event_id, one.missing) == (first.id, None, ["new_xrefs"])
    (run_id,) = joins.note(ledger, [last], JOINS, JOIN_PREFIX)
    found = joins.waiting_for(ledger, [first.id, last.id])
    assert {one.event_id for _, one in found} == {made(ledger, [run_id])[0].id}
