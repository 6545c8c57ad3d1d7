"""What is unusual in ensembl_metadata, and that each event is handed over once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from event_hooks.collect_events.collect import Summary, build_report, collect_new_events, overlap_start
from event_hooks.collect_events.hook import MetadataHook
from event_hooks.collect_events.params import Wanted
from event_hooks.events.lookups import Lookups
from event_hooks.exceptions import MetadataUnreachable
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import list_runs_since, load_run_events
from event_hooks.ledger.processes import load_planned_processes, store_outcomes, store_plan
from event_hooks.ledger.records import ProcessOutcome, ProcessStatus, State, StoredEvent
from tests.support.practice_metadata import PracticeMetadata, write_event

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
WINDOW = Wanted(NOON, NOON + timedelta(minutes=15))

Collect = Callable[..., Summary]


@pytest.fixture
def collect(ledger: Ledger, known: Lookups) -> Collect:
    """What the DAG does, with runs that are only noted."""

    def collect(wanted: Wanted = WINDOW, asked_by: str = "collect_events/test", **changes: Any) -> Summary:
        wanted = replace(wanted, **changes)
        found = MetadataHook().events(overlap_start(wanted.start), wanted.end)
        return collect_new_events(ledger, found, wanted, known, asked_by, lambda run_id: None)

    return collect


def entries(ledger: Ledger) -> list[StoredEvent]:
    runs = list_runs_since(ledger, NOON - timedelta(days=3650))
    return [entry for run_id in runs for entry in load_run_events(ledger, run_id)]


def genomes(ledger: Ledger) -> list[str | None]:
    return sorted(str(entry.payload["genome"]) for entry in entries(ledger))


def finish(ledger: Ledger, entry: StoredEvent, **states: State) -> None:
    """Let the processes of an event come to their ends."""
    assert entry.run_id
    planned = [ProcessStatus(entry.id, entry.position, name, "hive", "analysis") for name in states]
    store_plan(ledger, entry.run_id, planned)
    for name, state in states.items():
        if state == State.PLANNED:
            continue
        store_outcomes(ledger, name, [ProcessOutcome(entry.id, state)], "ti", ())


def test_an_event_is_handed_over_with_all_that_is_known_of_it(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    genome_id = metadata.genome("homo_sapiens")
    event_id = metadata.event(genome_id, at=NOON)
    summary = collect()
    assert (summary.found, summary.handed_over, summary.ignored) == (1, 1, {})
    (entry,) = entries(ledger)
    assert entry.run_id
    assert entry.run_id.startswith("collect__20261102T120000_20261102T121500_0000_")
    assert entry.payload == {
        "type": "new_genebuild",
        "genome": "homo_sapiens",
        "event_id": f"genome_event/{event_id}/20261102T120000/EnsemblVertebrates/113/homo_sapiens",
        "source": "Handover",
        "creation_time": "2026-11-02T12:00:00+00:00",
        "division": "EnsemblVertebrates",
        "release": 113,
        "eg_release": 60,
        "assembly": "GRCh38",
        "assembly_accession": "GCA_000001405",
        "genebuild": "2026-10",
        "email": "someone@ebi.ac.uk",
        "comment": "new patches",
        "database": "homo_sapiens_core_113_38",
    }


def test_a_window_is_half_open_and_equal_seconds_stay_together(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    for name, seconds in (("at_start", 0), ("same_second", 0), ("in_it", 899), ("at_end", 900)):
        metadata.event(metadata.genome(name), at=NOON + timedelta(seconds=seconds))
    assert collect().handed_over == 3
    assert genomes(ledger) == ["at_start", "in_it", "same_second"]
    following = replace(WINDOW, start=WINDOW.end, end=WINDOW.end + timedelta(minutes=15))
    assert collect(following).handed_over == 1


def test_the_time_zone_of_a_session_changes_nothing(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    genome_id = metadata.genome("homo_sapiens")
    metadata.event(genome_id, at=NOON)
    with metadata.engine.begin() as connection:  # one who writes in another zone means the same moment
        connection.exec_driver_sql("SET SESSION time_zone = '+05:00'")
        connection.exec_driver_sql(
            "INSERT INTO genome_event (genome_id, type, source, creation_time)"
            f" VALUES ({genome_id}, 'new_assembly', 'Handover', '2026-11-02 17:00:00')"
        )
    metadata.engine.dispose()
    with MetadataHook()._reading() as connection:
        assert connection.execute(text("SELECT @@session.time_zone")).scalar() == "+00:00"
    assert collect().handed_over == 2
    assert {entry.payload["creation_time"] for entry in entries(ledger)} == {"2026-11-02T12:00:00+00:00"}


def test_a_pre_release_load_and_an_unknown_source_are_no_news(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    for name, source in (
        ("loaded", "Pre release load"),
        ("by_hand", "Manual"),
        ("nobody", None),
        ("real", "Handover"),
    ):
        metadata.event(metadata.genome(name), "new_assembly", at=NOON, source=source)
    summary = collect()
    assert genomes(ledger) == ["real"]
    assert summary.ignored == {
        "its source is Pre release load": 1,
        "its source is Manual": 1,
        "its source is not set": 1,
    }
    assert collect(source="any").handed_over == 3


@pytest.mark.parametrize(
    ("kind", "expected"), [("New assembly", "new_assembly"), ("NEW_GENEBUILD ", "new_genebuild")]
)
def test_types_are_spelled_as_our_lookups_do(
    kind: str, expected: str, metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    metadata.event(metadata.genome("homo_sapiens"), kind, at=NOON)
    collect()
    assert [entry.payload["type"] for entry in entries(ledger)] == [expected]


def test_unknown_types_are_counted_told_and_hold_up_nothing(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    for kind in ("Other", "other", "new_genome", "new_genebuild"):
        metadata.event(metadata.genome("homo_sapiens"), kind, at=NOON)
    metadata.compara(at=NOON)
    metadata.mart("", at=NOON)
    summary = collect()
    assert summary.handed_over == 1
    assert summary.unknown_types == {"Other": 1, "other": 2, "new_genome": 1, "": 1}
    (report,) = build_report(summary, WINDOW, "collect_events/test")
    assert report.routing_key == "report.warn"
    assert "new_genome" in report.body


def test_events_of_no_genome_are_told_apart_by_their_database(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    metadata.compara("new_genebuild", at=NOON)
    metadata.mart("new_genebuild", at=NOON)
    assert collect().handed_over == 2
    found = {entry.payload["subject"]: entry.payload["genome"] for entry in entries(ledger)}
    assert found == {"ensembl_compara_113": None, "ensembl_mart_113": None}


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ("plain old text", {"details": "plain old text"}),
        ('{"email": "a@b", "comm', {"details": '{"email": "a@b", "comm'}),  # cut at 64 KB
        ('["a"]', {"details": '["a"]'}),
        ("", {}),
        ('{"comment": "caf\u00e9"}', {"comment": "caf\u00e9"}),
        ('{"comment": "#expr(unlink)expr#", "email": "a@b"}', {"email": "a@b", "left_out": ["comment"]}),
        ('{"force": true, "joined": {}, "type": "other"}', {"left_out": ["force", "joined"]}),
    ],
)
def test_details_of_any_kind_are_read(
    details: str, expected: dict[str, Any], metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    metadata.event(metadata.genome("homo_sapiens"), at=NOON, details=details)
    assert collect().handed_over == 1
    (entry,) = entries(ledger)
    own = {"type", "genome", "event_id", "source", "creation_time", "division", "release", "eg_release"}
    own |= {"assembly", "assembly_accession", "genebuild"}
    assert {name: value for name, value in entry.payload.items() if name not in own} == expected
    assert entry.payload["type"] == "new_genebuild"


def test_a_genome_that_is_handed_over_again_is_done_again_though_its_first_event_is_gone(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    event_id = metadata.event(metadata.genome("homo_sapiens"), "new_assembly", at=NOON)
    assert collect().handed_over == 1
    metadata.hand_over_again("homo_sapiens", "GRCh39", at=NOON)
    with metadata.engine.begin() as connection:  # ids may come again after a restart
        connection.execute(text("UPDATE genome_event SET genome_event_id = :id"), {"id": event_id})
        connection.execute(text("UPDATE genome_event SET creation_time = creation_time + INTERVAL 1 SECOND"))
    summary = collect()
    assert (summary.found, summary.handed_over, summary.known) == (1, 1, 0)
    assert sorted(entry.payload["assembly"] for entry in entries(ledger)) == ["GRCh38", "GRCh39"]


def test_another_release_is_another_event(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    with metadata.engine.begin() as connection:
        metadata.add_release(connection, 114)
    for release in (113, 114):
        metadata.event(metadata.genome("homo_sapiens", release=release), at=NOON)
    assert collect().handed_over == 2
    assert {entry.payload["release"] for entry in entries(ledger)} == {113, 114}


def test_what_is_committed_late_is_found_by_the_overlap(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    genome_id = metadata.genome("homo_sapiens")
    with metadata.engine.begin() as late:
        write_event(late, "genome_event", genome_id, "new_genebuild", at=NOON)
        assert collect().found == 0
    summary = collect(replace(WINDOW, start=WINDOW.end, end=WINDOW.end + timedelta(minutes=15)))
    assert (summary.found, summary.handed_over) == (0, 1)


def test_any_window_again_hands_nothing_over_twice(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__COLLECT_BATCH_SIZE", "50")
    metadata.collection(120, NOON)
    build_summaries = [collect() for _ in range(3)]
    assert [one.handed_over for one in build_summaries] == [120, 0, 0]
    assert [one.known for one in build_summaries] == [0, 120, 120]
    assert len(build_summaries[0].runs) == 3
    assert len(entries(ledger)) == len({entry.payload["event_id"] for entry in entries(ledger)}) == 120
    for run_id in build_summaries[0].runs:  # a run's events are where its jobs' inputs will look for them
        assert [entry.position for entry in load_run_events(ledger, run_id)] == list(
            range(len(load_run_events(ledger, run_id)))
        )


def test_two_overlapping_backfills_at_once_hand_each_event_over_once(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger, known: Lookups
) -> None:
    for minute in range(6):
        metadata.collection(40, NOON + timedelta(minutes=minute), f"bacterium_{minute}")
    begin = threading.Barrier(4)

    def backfill(at: int) -> int:
        begin.wait()
        total = 0
        mine = Ledger()
        for minute in sorted(range(6), reverse=bool(at % 2)):
            start = NOON + timedelta(minutes=minute)
            wanted = Wanted(start, start + timedelta(minutes=1))
            found = MetadataHook().events(overlap_start(start), wanted.end)
            total += collect_new_events(mine, found, wanted, known, f"b{at}", lambda run_id: None).handed_over
        mine.close()
        return total

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(backfill, range(4))) == 240
    assert len({entry.payload["event_id"] for entry in entries(ledger)}) == len(entries(ledger)) == 240


def test_a_dry_run_tells_and_does_nothing(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    metadata.event(metadata.genome("homo_sapiens"), at=NOON)
    metadata.event(metadata.genome("mus_musculus"), at=NOON, source="Manual")
    caplog.set_level("INFO")
    summary = collect(is_dry=True)
    assert (summary.handed_over, summary.runs, entries(ledger)) == (1, [], [])
    assert "homo_sapiens) would be handed over" in caplog.text
    assert "is ignored: its source is Manual" in caplog.text


def test_filters_name_division_type_and_genome(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    for name, division, kind in (
        ("homo_sapiens", "EnsemblVertebrates", "new_genebuild"),
        ("homo_erectus", "EnsemblVertebrates", "new_assembly"),
        ("mus_musculus", "EnsemblVertebrates", "new_genebuild"),
        ("homo_planta", "EnsemblPlants", "new_genebuild"),
    ):
        metadata.event(metadata.genome(name, division=division), kind, at=NOON)
    summary = collect(division="EnsemblVertebrates", types=["new_genebuild"], genome="homo_*")
    assert genomes(ledger) == ["homo_sapiens"]
    assert summary.ignored == {
        "it is of another type": 1,
        "it is of another genome": 1,
        "it is of another division": 1,
    }


def test_the_reconciliation_counts_what_became_of_each(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    for name in ("fine", "broken", "at_work", "new"):
        metadata.event(metadata.genome(name), at=NOON)
    collect(genome="[!n]*")
    by_name = {entry.payload["genome"]: entry for entry in entries(ledger)}
    finish(ledger, by_name["fine"], dump_peptide=State.COMPLETE)
    finish(ledger, by_name["broken"], dump_peptide=State.FAILED)
    finish(ledger, by_name["at_work"], dump_peptide=State.PLANNED)
    summary = collect(is_dry=True)
    counts = (summary.found, summary.known, summary.succeeded, summary.failed, summary.running)
    assert counts == (4, 3, 1, 1, 1)
    assert summary.handed_over == 1


def test_only_what_failed_is_done_again(metadata: PracticeMetadata, collect: Collect, ledger: Ledger) -> None:
    for name in ("fine", "broken", "at_work"):
        metadata.event(metadata.genome(name), "new_assembly", at=NOON)
    collect()
    by_name = {entry.payload["genome"]: entry for entry in entries(ledger)}
    finish(ledger, by_name["fine"], dump_dna=State.COMPLETE, dump_peptide=State.COMPLETE)
    finish(ledger, by_name["broken"], dump_dna=State.COMPLETE, dump_peptide=State.FAILED)
    finish(ledger, by_name["at_work"], dump_dna=State.FAILED, dump_peptide=State.PLANNED)
    for expected in (1, 0):  # what is at work again, is not done a third time
        summary = collect(reprocess="failed")
        assert (summary.again, summary.handed_over) == (expected, expected)
    again = next(entry for entry in entries(ledger) if entry.payload["event_id"].endswith("#2"))
    assert again.run_id
    assert load_planned_processes(ledger, again.run_id) == {0: ["dump_peptide"]}
    assert (summary.failed, summary.running) == (1, 1)  # broken, at work again, counts as running
    store_outcomes(ledger, "dump_peptide", [ProcessOutcome(again.id, State.FAILED)], "ti", ())
    assert collect(reprocess="failed").again == 1
    assert any(entry.payload["event_id"].endswith("/broken#3") for entry in entries(ledger))


def test_what_is_done_again_is_of_the_window_alone(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    metadata.event(metadata.genome("homo_sapiens"), at=NOON)
    collect()
    later = replace(WINDOW, start=WINDOW.end, end=WINDOW.end + timedelta(minutes=15))
    summary = collect(later, reprocess="all", reason="new software")
    assert (summary.known, summary.again, summary.running) == (0, 0, 0)


def test_everything_is_done_again_once_for_each_who_asks(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    metadata.event(metadata.genome("homo_sapiens"), at=NOON)
    collect()
    for asked_by, expected in (("a", 1), ("a", 0), ("b", 1)):
        assert collect(asked_by=asked_by, reprocess="all", reason="new software").again == expected
    forced = [entry.payload for entry in entries(ledger) if entry.payload.get("force")]
    assert [one["reason"] for one in forced] == ["new software", "new software"]


def test_an_event_that_a_hive_would_run_as_code_is_told_and_holds_up_nothing(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    metadata.event(metadata.genome("homo_sapiens"), at=NOON)
    metadata.event(metadata.genome("evil", assembly="#expr(die)expr#"), at=NOON)
    summary = collect()
    assert (summary.handed_over, genomes(ledger)) == (1, ["homo_sapiens"])
    assert len(summary.refused) == 1
    assert "assembly" in summary.refused[0]
    assert build_report(summary, WINDOW, "x")[0].routing_key == "report.warn"


@pytest.mark.alone
def test_a_year_of_events_is_planned_in_minutes(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(3):  # the short form of make bench-collect
        metadata.collection(400, NOON - timedelta(days=30 * day), f"bacterium_{day}")
    began = time.monotonic()
    summary = collect(Wanted(NOON - timedelta(days=365), NOON + timedelta(days=1)))
    assert (summary.handed_over, len(summary.runs)) == (1200, 3)
    assert time.monotonic() - began < 8


def test_what_is_wrong_with_the_database_is_said_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ENSEMBL_METADATA", "mysql://reader:secret@127.0.0.1:1/metadata")
    with pytest.raises(MetadataUnreachable, match="ensembl_metadata") as caught:
        MetadataHook().events(NOON, NOON)
    assert "secret" not in str(caught.value)
    monkeypatch.delenv("AIRFLOW_CONN_ENSEMBL_METADATA")
    with pytest.raises(MetadataUnreachable, match="no connection of this name"):
        MetadataHook().events(NOON, NOON)


def test_reading_cannot_write(metadata: PracticeMetadata) -> None:
    with MetadataHook()._reading() as connection, pytest.raises(Exception, match=r"READ ONLY|denied"):
        connection.exec_driver_sql("DELETE FROM genome_event")
