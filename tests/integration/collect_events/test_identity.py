"""The identity of a collected event: no change of a name makes it another event."""

from __future__ import annotations

import hashlib
import json

import pytest
from alembic import command
from sqlalchemy import select, text, update

from event_hooks.collect_events.collect import collect_new_events
from event_hooks.collect_events.hook import MetadataHook
from event_hooks.collect_events.windows import overlap_start
from event_hooks.events.lookups import Lookups
from event_hooks.ledger import database, schema
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.records import ProcessState
from event_hooks.ledger.tables import event
from tests.integration.collect_events.stored import NOON, WINDOW, Collect, list_stored_events, store_states
from tests.support.practice_metadata import PracticeMetadata

CHANGES = [
    "UPDATE organism SET name = CONCAT(name, '_renamed')",
    "UPDATE division SET name = CONCAT('Renamed', division_id) WHERE name = 'Temporary'",
    "UPDATE data_release SET ensembl_version = 115 WHERE ensembl_version = 114",
    "UPDATE compara_analysis SET dbname = 'renamed'",
    "UPDATE data_release_database SET dbname = 'renamed'",
    "UPDATE genome SET genebuild = '2026-12'",
    "UPDATE assembly SET assembly_default = 'GRCh39'",
    "UPDATE genome_event SET details = 'corrected'",
]


def add_events(metadata: PracticeMetadata) -> None:
    """Add an event of each table."""
    with metadata.engine.begin() as connection:
        metadata.add_release(connection, 114)
    metadata.add_event(metadata.add_genome("g", division="Temporary", release=114), created_at=NOON)
    metadata.add_compara_event("new_genebuild", created_at=NOON)
    metadata.add_mart_event("new_genebuild", created_at=NOON)


def execute(metadata: PracticeMetadata, statement: str) -> None:
    with metadata.engine.begin() as connection:
        assert connection.execute(text(statement)).rowcount


@pytest.mark.parametrize("change", CHANGES)
def test_an_event_with_other_names_is_a_duplicate(
    change: str, metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    add_events(metadata)
    assert collect().started == 3
    execute(metadata, change)
    summary = collect()
    assert (summary.started, summary.duplicates, summary.rejected) == (0, 3, [])
    assert len(list_stored_events(ledger)) == 3


def test_two_runs_that_read_other_names_accept_an_event_once(
    metadata: PracticeMetadata,
    ledger: Ledger,
    event_lookups: Lookups,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The second run looks an event up before the first accepts it."""
    add_events(metadata)
    old = MetadataHook().list_events(overlap_start(WINDOW.start), WINDOW.end)
    execute(metadata, CHANGES[0])
    new = MetadataHook().list_events(overlap_start(WINDOW.start), WINDOW.end)

    def start_second(run_id: str) -> None:
        assert not collect_new_events(ledger, new, WINDOW, event_lookups, "second", lambda _: None).started

    monkeypatch.setattr("event_hooks.collect_events.collect.find_stored", lambda ledger, candidates: [])
    summary = collect_new_events(ledger, old, WINDOW, event_lookups, "first", start_second)
    assert summary.started == len(list_stored_events(ledger)) == 3
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def test_a_failed_event_with_another_name_is_reprocessed_once(
    metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    metadata.add_event(metadata.add_genome("homo_sapiens"), created_at=NOON)
    collect()
    store_states(ledger, list_stored_events(ledger)[0], dump_peptide=ProcessState.FAILED)
    assert collect(reprocess="failed").reprocessed == 1
    execute(metadata, CHANGES[0])
    assert collect(reprocess="failed").reprocessed == 0


@pytest.mark.parametrize(("seconds", "started"), [(0, 0), (1, 1)])
def test_a_reused_id_is_another_event_if_its_time_differs(
    seconds: int, started: int, metadata: PracticeMetadata, collect: Collect
) -> None:
    event_id = metadata.add_event(metadata.add_genome("homo_sapiens"), created_at=NOON)
    collect()
    execute(metadata, "DELETE FROM genome_event")
    metadata.add_event(metadata.add_genome("mus_musculus"), created_at=NOON)
    execute(
        metadata,
        f"UPDATE genome_event SET genome_event_id = {event_id},"
        f" creation_time = creation_time + INTERVAL {seconds} SECOND",
    )
    assert collect().started == started


class TestUpgrade:
    """An event that an earlier version has stored: its id ended with division, release and genome."""

    SUFFIX = "/EnsemblVertebrates/113/homo_sapiens"

    @pytest.fixture(params=["postgresql", "mysql", "sqlite"])
    def ledger_server(self, request: pytest.FixtureRequest) -> str:
        """The kind of the database server."""
        return str(request.param)

    def store_long_ids(self, ledger: Ledger, suffixes: list[str]) -> None:
        """Change the stored events, in their order, to those of the earlier version."""
        with ledger.transaction() as connection:
            rows = connection.execute(select(event).order_by(event.c.id)).all()
            for row, suffix in zip(rows, suffixes, strict=True):
                payload = json.loads(row.payload)
                head, _, repetition = payload["event_id"].partition("#")
                payload["event_id"] = f"{head}{suffix}{'#' if repetition else ''}{repetition}"
                text_of_key = json.dumps(("id", payload["type"], payload["event_id"]))
                values = {
                    "payload": json.dumps(payload),
                    "event_key": hashlib.sha256(text_of_key.encode()).hexdigest(),
                }
                connection.execute(update(event).where(event.c.id == row.id).values(values))

    def upgrade(self, ledger: Ledger) -> None:
        """Run the migration of the keys only: the tables have the columns of later ones already."""
        config, engine = schema.build_config(), database.build_engine()
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.stamp(config, "rejected_reports")
            command.upgrade(config, "collected_event_keys")
            command.stamp(config, "head")
        engine.dispose()

    def test_it_is_not_started_again(
        self, metadata: PracticeMetadata, collect: Collect, ledger: Ledger
    ) -> None:
        metadata.add_event(metadata.add_genome("homo_sapiens"), created_at=NOON)
        collect()
        self.store_long_ids(ledger, [self.SUFFIX])
        (before,) = list_stored_events(ledger)
        self.upgrade(ledger)
        self.upgrade(ledger)
        assert list_stored_events(ledger) == [before]  # the inputs of its jobs contain the payload
        summary = collect()
        assert (summary.started, summary.duplicates) == (0, 1)

    def test_its_repetitions_are_not_started_again(
        self, metadata: PracticeMetadata, collect: Collect, ledger: Ledger
    ) -> None:
        metadata.add_event(metadata.add_genome("homo_sapiens"), created_at=NOON)
        collect()
        store_states(ledger, list_stored_events(ledger)[0], dump_peptide=ProcessState.FAILED)
        collect(reprocess="failed")
        forced = {"run_id": "a", "reprocess": "all", "reason": "new software"}
        collect(**forced)
        self.store_long_ids(ledger, [self.SUFFIX] * 3)
        self.upgrade(ledger)
        assert collect(reprocess="failed").runs == []
        assert collect(**forced).runs == []
        assert len(list_stored_events(ledger)) == 3

    def test_of_two_events_that_differ_in_names_the_first_counts(
        self, metadata: PracticeMetadata, collect: Collect, ledger: Ledger
    ) -> None:
        """The earlier version started a renamed event twice."""
        genome_id = metadata.add_genome("homo_sapiens")
        ids = [metadata.add_event(genome_id, created_at=NOON) for _ in range(2)]
        collect()
        self.store_long_ids(ledger, [self.SUFFIX, "/Renamed/113/homo_sapiens"])
        with ledger.transaction() as connection:
            rows = connection.execute(select(event).order_by(event.c.id)).all()
            payload = rows[1].payload.replace(f"genome_event/{ids[1]}/", f"genome_event/{ids[0]}/")
            key = json.dumps(("id", rows[1].type, json.loads(payload)["event_id"]))
            values = {"payload": payload, "event_key": hashlib.sha256(key.encode()).hexdigest()}
            connection.execute(update(event).where(event.c.id == rows[1].id).values(values))
        self.upgrade(ledger)
        execute(metadata, f"DELETE FROM genome_event WHERE genome_event_id = {ids[1]}")
        summary = collect(is_dry_run=True)
        assert (summary.started, summary.duplicates) == (0, 1)
