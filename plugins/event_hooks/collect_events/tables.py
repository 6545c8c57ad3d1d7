"""
The tables of ensembl_metadata that event hooks read.

Source: ensembl-metadata, ``sql/table.sql``. The three event tables have the same columns.
"""

from __future__ import annotations

from sqlalchemy import Column, DateTime, Integer, MetaData, String, Table, Text

metadata = MetaData()

data_release = Table(
    "data_release",
    metadata,
    Column("data_release_id", Integer, primary_key=True),
    Column("ensembl_version", Integer),
    Column("ensembl_genomes_version", Integer),
)
division = Table("division", metadata, Column("division_id", Integer), Column("name", String(32)))
organism = Table("organism", metadata, Column("organism_id", Integer), Column("name", String(128)))
assembly = Table(
    "assembly",
    metadata,
    Column("assembly_id", Integer),
    Column("assembly_accession", String(16)),
    Column("assembly_default", String(200)),
)
genome = Table(
    "genome",
    metadata,
    Column("genome_id", Integer),
    Column("data_release_id", Integer),
    Column("assembly_id", Integer),
    Column("organism_id", Integer),
    Column("division_id", Integer),
    Column("genebuild", String(64)),
)


def _database_table(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column(f"{name}_id", Integer, key="id"),
        Column("data_release_id", Integer),
        Column("division_id", Integer),
        Column("dbname", String(64)),
    )


def _event_table(subject: str) -> Table:
    name = f"{subject}_event"
    return Table(
        name,
        metadata,
        Column(f"{name}_id", Integer, key="id", primary_key=True),
        Column(f"{subject}_id", Integer, key="subject_id"),
        Column("type", String(32)),
        Column("source", String(128)),
        Column("creation_time", DateTime),
        Column("details", Text),
    )


genome_event = _event_table("genome")

DATABASE_EVENTS = [
    (_event_table(name), _database_table(name)) for name in ("compara_analysis", "data_release_database")
]
"""Event tables without a genome, each with the table of the databases that its events are about."""
