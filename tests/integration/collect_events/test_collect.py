"""Collecting unusual rows of ensembl_metadata, and starting each event once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from event_hooks.collect_events.collect import collect_new_events
from event_hooks.collect_events.hook import MetadataHook
from event_hooks.collect_events.params import CollectParams
from event_hooks.collect_events.summary import build_report
from event_hooks.collect_events.windows import overlap_start
from event_hooks.events.lookups import Lookups
from event_hooks.events.rules import JoinRule
from event_hooks.exceptions import MetadataRejected, MetadataUnreachable
from event_hooks.ledger import joins
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import load_run_events
from event_hooks.ledger.outcomes import store_outcomes
from event_hooks.ledger.processes import load_run_statuses
from event_hooks.ledger.records import ProcessOutcome, ProcessState
from tests.integration.collect_events.stored import (
    NOON,
    WINDOW,
    Collect,
    list_genomes,
    list_stored_events,
    store_states,
)
from tests.support.practice_metadata import PracticeMetadata, write_event


def test_an_event_has_all_fields_of_its_row(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    genome_id = metadata.add_genome("homo_sapiens")
    event_id = metadata.add_event(genome_id, created_at=NOON)
    summary = collect()
    assert (summary.found, summary.started, summary.ignored) == (1, 1, {})
    (event,) = list_stored_events(ledger)
    assert event.run_id
    assert event.run_id.startswith("collect__20261102T120000_20261102T121500_0000_")
    assert event.payload == {
        "type": "new_genebuild",
        "genome": "homo_sapiens",
        "event_id": f"genome_event/{event_id}/20261102T120000",
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
        metadata.add_event(metadata.add_genome(name), created_at=NOON + timedelta(seconds=seconds))
    assert collect().started == 3
    assert list_genomes(ledger) == ["at_start", "in_it", "same_second"]
    next_window = replace(WINDOW, start=WINDOW.end, end=WINDOW.end + timedelta(minutes=15))
    assert collect(next_window).started == 1


def test_creation_times_do_not_depend_on_the_session_time_zone(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    genome_id = metadata.add_genome("homo_sapiens")
    metadata.add_event(genome_id, created_at=NOON)
    with metadata.engine.begin() as connection:  # The same instant, written in another time zone.
        connection.exec_driver_sql("SET SESSION time_zone = '+05:00'")
        connection.exec_driver_sql(
            "INSERT INTO genome_event (genome_id, type, source, creation_time)"
            f" VALUES ({genome_id}, 'new_assembly', 'Handover', '2026-11-02 17:00:00')"
        )
    metadata.engine.dispose()
    with MetadataHook().connect_read_only() as connection:
        assert connection.execute(text("SELECT @@session.time_zone")).scalar() == "+00:00"
    assert collect().started == 2
    assert {event.payload["creation_time"] for event in list_stored_events(ledger)} == {
        "2026-11-02T12:00:00+00:00"
    }


def test_a_pre_release_load_and_an_unknown_source_are_ignored(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    for name, source in (
        ("loaded", "Pre release load"),
        ("by_hand", "Manual"),
        ("no_source", None),
        ("real", "Handover"),
    ):
        metadata.add_event(metadata.add_genome(name), "new_assembly", created_at=NOON, source=source)
    summary = collect()
    assert list_genomes(ledger) == ["real"]
    assert summary.ignored == {
        "its source is Pre release load": 1,
        "its source is Manual": 1,
        "its source is not set": 1,
    }
    assert collect(source="any").started == 3


@pytest.mark.parametrize(
    ("kind", "expected"), [("New assembly", "new_assembly"), ("NEW_GENEBUILD ", "new_genebuild")]
)
def test_event_types_are_normalized(
    kind: str, expected: str, metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    metadata.add_event(metadata.add_genome("homo_sapiens"), kind, created_at=NOON)
    collect()
    assert [event.payload["type"] for event in list_stored_events(ledger)] == [expected]


def test_unknown_types_are_counted_and_reported_and_block_nothing(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    for kind in ("Other", "other", "new_genome", "new_genebuild"):
        metadata.add_event(metadata.add_genome("homo_sapiens"), kind, created_at=NOON)
    metadata.add_compara_event(created_at=NOON)
    metadata.add_mart_event("", created_at=NOON)
    summary = collect()
    assert summary.started == 1
    assert summary.unknown_types == {"Other": 1, "other": 2, "new_genome": 1, "": 1}
    (report,) = build_report(summary, WINDOW, "collect_events/test")
    assert report.routing_key == "report.warn"
    assert "new_genome" in report.body


def test_events_without_a_genome_are_distinguished_by_their_database(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    metadata.add_compara_event("new_genebuild", created_at=NOON)
    metadata.add_mart_event("new_genebuild", created_at=NOON)
    assert collect().started == 2
    genomes_by_subject = {
        event.payload["subject"]: event.payload["genome"] for event in list_stored_events(ledger)
    }
    assert genomes_by_subject == {"ensembl_compara_113": None, "ensembl_mart_113": None}


def test_a_replaced_genome_is_processed_again_without_its_first_event(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    event_id = metadata.add_event(metadata.add_genome("homo_sapiens"), "new_assembly", created_at=NOON)
    assert collect().started == 1
    metadata.replace_genome("homo_sapiens", "GRCh39", created_at=NOON)
    with metadata.engine.begin() as connection:  # MySQL may reuse ids after a restart.
        connection.execute(text("UPDATE genome_event SET genome_event_id = :id"), {"id": event_id})
        connection.execute(text("UPDATE genome_event SET creation_time = creation_time + INTERVAL 1 SECOND"))
    summary = collect()
    assert (summary.found, summary.started, summary.duplicates) == (1, 1, 0)
    assert sorted(event.payload["assembly"] for event in list_stored_events(ledger)) == ["GRCh38", "GRCh39"]


def test_the_event_of_another_release_is_not_a_duplicate(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    with metadata.engine.begin() as connection:
        metadata.add_release(connection, 114)
    for release in (113, 114):
        metadata.add_event(metadata.add_genome("homo_sapiens", release=release), created_at=NOON)
    assert collect().started == 2
    assert {event.payload["release"] for event in list_stored_events(ledger)} == {113, 114}


def test_an_event_committed_late_is_found_in_the_overlap(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    genome_id = metadata.add_genome("homo_sapiens")
    with metadata.engine.begin() as connection:
        write_event(connection, "genome_event", genome_id, "new_genebuild", created_at=NOON)
        assert collect().found == 0
    summary = collect(replace(WINDOW, start=WINDOW.end, end=WINDOW.end + timedelta(minutes=15)))
    assert (summary.found, summary.started) == (0, 1)


def test_a_repeated_window_starts_no_event_twice(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__COLLECT_BATCH_SIZE", "50")
    metadata.add_collection(120, NOON)
    summaries = [collect() for _ in range(3)]
    assert [summary.started for summary in summaries] == [120, 0, 0]
    assert [summary.duplicates for summary in summaries] == [0, 120, 120]
    assert len(summaries[0].runs) == 3
    assert (
        len(list_stored_events(ledger))
        == len({event.payload["event_id"] for event in list_stored_events(ledger)})
        == 120
    )
    for run_id in summaries[0].runs:  # The input of a job refers to its event by the position.
        assert [event.position for event in load_run_events(ledger, run_id)] == list(
            range(len(load_run_events(ledger, run_id)))
        )


def test_concurrent_overlapping_backfills_start_each_event_once(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger, event_lookups: Lookups
) -> None:
    for minute in range(6):
        metadata.add_collection(40, NOON + timedelta(minutes=minute), f"bacterium_{minute}")
    barrier = threading.Barrier(4)

    def backfill(number: int) -> int:
        barrier.wait()
        total = 0
        own_ledger = Ledger()
        for minute in sorted(range(6), reverse=bool(number % 2)):
            start = NOON + timedelta(minutes=minute)
            params = CollectParams(start, start + timedelta(minutes=1))
            events = MetadataHook().list_events(overlap_start(start), params.end)
            total += collect_new_events(
                own_ledger, events, params, event_lookups, f"b{number}", lambda run_id: None
            ).started
        own_ledger.close()
        return total

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(backfill, range(4))) == 240
    assert (
        len({event.payload["event_id"] for event in list_stored_events(ledger)})
        == len(list_stored_events(ledger))
        == 240
    )


def test_a_dry_run_reports_and_starts_nothing(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    metadata.add_event(metadata.add_genome("homo_sapiens"), created_at=NOON)
    metadata.add_event(metadata.add_genome("mus_musculus"), created_at=NOON, source="Manual")
    caplog.set_level("INFO")
    summary = collect(is_dry_run=True)
    assert (summary.started, summary.runs, list_stored_events(ledger)) == (1, [], [])
    assert "homo_sapiens) would be started" in caplog.text
    assert "is ignored: its source is Manual" in caplog.text


def test_events_are_filtered_by_division_type_and_genome(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    for name, division, kind in (
        ("homo_sapiens", "EnsemblVertebrates", "new_genebuild"),
        ("homo_erectus", "EnsemblVertebrates", "new_assembly"),
        ("mus_musculus", "EnsemblVertebrates", "new_genebuild"),
        ("homo_planta", "EnsemblPlants", "new_genebuild"),
    ):
        metadata.add_event(metadata.add_genome(name, division=division), kind, created_at=NOON)
    summary = collect(division="EnsemblVertebrates", types=["new_genebuild"], genome="homo_*")
    assert list_genomes(ledger) == ["homo_sapiens"]
    assert summary.ignored == {
        "it is of another type": 1,
        "it is of another genome": 1,
        "it is of another division": 1,
    }


def test_the_reconciliation_counts_the_outcomes_of_events(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    for name in ("fine", "broken", "at_work", "new"):
        metadata.add_event(metadata.add_genome(name), created_at=NOON)
    collect(genome="[!n]*")
    by_name = {event.payload["genome"]: event for event in list_stored_events(ledger)}
    store_states(ledger, by_name["fine"], dump_peptide=ProcessState.COMPLETE)
    store_states(ledger, by_name["broken"], dump_peptide=ProcessState.FAILED)
    store_states(ledger, by_name["at_work"], dump_peptide=ProcessState.PLANNED)
    summary = collect(is_dry_run=True)
    counts = (summary.found, summary.duplicates, summary.succeeded, summary.failed, summary.running)
    assert counts == (4, 3, 1, 1, 1)
    assert summary.started == 1


def test_only_failed_events_are_reprocessed(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    for name in ("fine", "broken", "at_work"):
        metadata.add_event(metadata.add_genome(name), "new_assembly", created_at=NOON)
    collect()
    by_name = {event.payload["genome"]: event for event in list_stored_events(ledger)}
    store_states(ledger, by_name["fine"], dump_dna=ProcessState.COMPLETE, dump_peptide=ProcessState.COMPLETE)
    store_states(ledger, by_name["broken"], dump_dna=ProcessState.COMPLETE, dump_peptide=ProcessState.FAILED)
    store_states(ledger, by_name["at_work"], dump_dna=ProcessState.FAILED, dump_peptide=ProcessState.PLANNED)
    for expected in (1, 0):  # A process that runs again is not reprocessed a second time.
        summary = collect(reprocess="failed")
        assert (summary.reprocessed, summary.started) == (expected, expected)
    reprocessed = next(
        event for event in list_stored_events(ledger) if event.payload["event_id"].endswith("#2")
    )
    assert reprocessed.run_id
    statuses = load_run_statuses(ledger, reprocessed.run_id)
    assert [(status.position, status.process) for status in statuses] == [(0, "dump_peptide")]
    assert (summary.failed, summary.running) == (1, 1)  # The reprocessed event "broken" counts as running.
    store_outcomes(ledger, "dump_peptide", [ProcessOutcome(reprocessed.id, ProcessState.FAILED)], "ti", ())
    assert collect(reprocess="failed").reprocessed == 1
    third = next(event for event in list_stored_events(ledger) if event.payload["event_id"].endswith("#3"))
    assert third.payload["genome"] == "broken"


@pytest.mark.parametrize(("reprocess", "open_joins"), [("failed", 0), ("all", 1)])
def test_only_repetitions_of_all_processes_count_for_joins(
    reprocess: str, open_joins: int, metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    metadata.add_event(metadata.add_genome("homo_sapiens"), created_at=NOON)
    collect()
    (original,) = list_stored_events(ledger)
    store_states(ledger, original, dump_dna=ProcessState.FAILED, dump_peptide=ProcessState.COMPLETE)
    assert collect(reprocess=reprocess, reason="new software").reprocessed == 1
    (repetition,) = (event for event in list_stored_events(ledger) if event.id != original.id)
    rule = JoinRule(process="dump_flatfile", after=("new_genebuild", "new_xrefs"), within=60, then="run")
    joins.record_join_events(ledger, [repetition], {rule.process: rule}, "join__")
    assert len(joins.list_open_waits(ledger)) == open_joins


def test_only_events_of_the_window_are_reprocessed(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    metadata.add_event(metadata.add_genome("homo_sapiens"), created_at=NOON)
    collect()
    next_window = replace(WINDOW, start=WINDOW.end, end=WINDOW.end + timedelta(minutes=15))
    summary = collect(next_window, reprocess="all", reason="new software")
    assert (summary.duplicates, summary.reprocessed, summary.running) == (0, 0, 0)


def test_all_events_are_reprocessed_once_per_request(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    metadata.add_event(metadata.add_genome("homo_sapiens"), created_at=NOON)
    collect()
    for run_id in ("a", "a", "b"):
        summary = collect(run_id=run_id, reprocess="all", reason="new software")
        assert summary.reprocessed == 1
    forced = [event.payload for event in list_stored_events(ledger) if event.payload.get("force")]
    assert [payload["reason"] for payload in forced] == ["new software", "new software"]


def test_an_event_that_ehive_would_run_as_code_is_reported_and_blocks_nothing(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    metadata.add_event(metadata.add_genome("homo_sapiens"), created_at=NOON)
    metadata.add_event(metadata.add_genome("evil", assembly="#expr(die)expr#"), created_at=NOON)
    summary = collect()
    assert (summary.started, list_genomes(ledger)) == (1, ["homo_sapiens"])
    assert len(summary.rejected) == 1
    assert "assembly" in summary.rejected[0]
    assert build_report(summary, WINDOW, "x")[0].routing_key == "report.warn"


@pytest.mark.alone
def test_a_year_of_events_is_collected_within_seconds(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(3):  # the short form of make bench-collect
        metadata.add_collection(400, NOON - timedelta(days=30 * day), f"bacterium_{day}")
    start = time.monotonic()
    summary = collect(CollectParams(NOON - timedelta(days=365), NOON + timedelta(days=1)))
    assert (summary.started, len(summary.runs)) == (1200, 3)
    assert time.monotonic() - start < 8


def test_an_error_of_the_database_hides_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ENSEMBL_METADATA", "mysql://reader:secret@127.0.0.1:1/metadata")
    with pytest.raises(MetadataUnreachable, match="ensembl_metadata") as caught:
        MetadataHook().list_events(NOON, NOON)
    assert "secret" not in str(caught.value)
    monkeypatch.delenv("AIRFLOW_CONN_ENSEMBL_METADATA")
    with pytest.raises(MetadataUnreachable, match="no connection of this name"):
        MetadataHook().list_events(NOON, NOON)


def test_a_lasting_error_of_the_database_is_a_rejection_with_the_reason(metadata: PracticeMetadata) -> None:
    with (
        pytest.raises(MetadataRejected, match="unheard_of"),
        MetadataHook().connect_read_only() as connection,
    ):
        connection.exec_driver_sql("SELECT unheard_of FROM genome_event")


def test_the_metadata_connection_is_read_only(metadata: PracticeMetadata) -> None:
    expected = pytest.raises(Exception, match=r"READ ONLY|denied")
    with MetadataHook().connect_read_only() as connection, expected:
        connection.exec_driver_sql("DELETE FROM genome_event")
