"""Read ensembl_metadata."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from sqlalchemy import Connection, Select, String, Table, create_engine, literal, null, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from event_hooks import settings
from event_hooks.collect_events import tables
from event_hooks.collect_events.metadata_event import Found
from event_hooks.database_url import engine_args_from_connection
from event_hooks.exceptions import MetadataUnreachable

CONN_ID = "ensembl_metadata"


class MetadataHook(BaseHook):
    """
    Read the events of ensembl_metadata, over a connection that cannot write and whose times are UTC.

    :param metadata_conn_id: of type mysql. Its user needs no right but SELECT.
    """

    conn_name_attr = "metadata_conn_id"
    default_conn_name = CONN_ID
    hook_name = "ensembl_metadata"

    def __init__(self, metadata_conn_id: str = CONN_ID) -> None:
        super().__init__()
        self.metadata_conn_id = metadata_conn_id

    def events(self, start: datetime, end: datetime) -> list[Found]:
        """
        Give the events of ``[start, end)``, all kinds and sources, in the order of their times.

        Times have seconds: what was written in the second of ``end`` belongs to the next window.

        :raises MetadataUnreachable: no answer, none in time, or the tables are not there.
        """
        found = []
        with self._reading() as connection:
            for statement in (_of_genomes(), *(_of_database(*pair) for pair in tables.DATABASE_EVENTS)):
                time = statement.selected_columns["creation_time"]
                wanted = statement.where(time >= _naive(start), time < _naive(end))
                found += [Found(**row) for row in connection.execute(wanted).mappings()]
        return sorted(found, key=lambda one: (one.creation_time, one.table, one.id))

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            url, options = engine_args_from_connection(
                self.get_connection(self.metadata_conn_id), settings.metadata_timeout()
            )
            engine = create_engine(url, connect_args=options, hide_parameters=True, poolclass=NullPool)
            with engine.connect() as connection:
                connection.exec_driver_sql("SET SESSION time_zone = '+00:00'")
                connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
                connection.commit()
                yield connection
        except AirflowNotFoundException as error:
            raise MetadataUnreachable(
                self.metadata_conn_id, "Airflow has no connection of this name"
            ) from error
        except (SQLAlchemyError, ValueError) as error:
            reason = str(getattr(error, "orig", None) or error)
            raise MetadataUnreachable(self.metadata_conn_id, reason) from error


def _naive(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(tzinfo=None)


def _selected(event: Table, **columns: Any) -> Select[Any]:
    """Select what :class:`Found` has; what a kind of event has not is null."""
    columns |= {
        "division": tables.division.c.name,
        "release": tables.data_release.c.ensembl_version,
        "eg_release": tables.data_release.c.ensembl_genomes_version,
    }
    common = [event.c[name] for name in ("id", "type", "source", "creation_time", "details")]
    given = {"table": literal(event.name, String), **columns}
    names = Found.__dataclass_fields__.keys() - {column.key for column in common}
    return select(
        *(column.label(column.key) for column in common),
        *(given.get(name, null()).label(name) for name in sorted(names)),
    )


def _of_genomes() -> Select[Any]:
    event, genome = tables.genome_event, tables.genome
    joined = (
        event.join(genome, genome.c.genome_id == event.c.subject_id)
        .join(tables.organism, tables.organism.c.organism_id == genome.c.organism_id)
        .join(tables.assembly, tables.assembly.c.assembly_id == genome.c.assembly_id)
        .join(tables.division, tables.division.c.division_id == genome.c.division_id)
        .join(tables.data_release, tables.data_release.c.data_release_id == genome.c.data_release_id)
    )
    return _selected(
        event,
        name=tables.organism.c.name,
        subject=tables.organism.c.name,
        assembly=tables.assembly.c.assembly_default,
        assembly_accession=tables.assembly.c.assembly_accession,
        genebuild=genome.c.genebuild,
    ).select_from(joined)


def _of_database(event: Table, subject: Table) -> Select[Any]:
    """Select the events of a kind that are of no genome."""
    joined = (
        event.join(subject, subject.c.id == event.c.subject_id)
        .join(tables.division, tables.division.c.division_id == subject.c.division_id)
        .join(tables.data_release, tables.data_release.c.data_release_id == subject.c.data_release_id)
    )
    return _selected(event, subject=subject.c.dbname).select_from(joined)
