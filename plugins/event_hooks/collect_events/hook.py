"""The Airflow hook of the ensembl_metadata database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from sqlalchemy import Connection, Select, String, Table, literal, null, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from event_hooks import addresses, settings
from event_hooks.collect_events import tables
from event_hooks.collect_events.metadata_event import MetadataEvent
from event_hooks.database_errors import is_temporary
from event_hooks.database_url import engine_args_from_connection, make_engine
from event_hooks.exceptions import MetadataRejected, MetadataUnreachable

CONN_ID = "ensembl_metadata"


class MetadataHook(BaseHook):
    """
    Read the events of ensembl_metadata, over a read-only connection with UTC times.

    :param metadata_conn_id: an Airflow connection of type mysql. Its user needs only the permission SELECT.
    """

    conn_name_attr = "metadata_conn_id"
    default_conn_name = CONN_ID
    hook_name = "ensembl_metadata"

    def __init__(self, metadata_conn_id: str = CONN_ID) -> None:
        super().__init__()
        self.metadata_conn_id = metadata_conn_id

    def list_events(self, start: datetime, end: datetime) -> list[MetadataEvent]:
        """
        Return the events of ``[start, end)``, of all kinds and sources, in the order of their times.

        The database stores whole seconds: an event of the second of ``end`` belongs to the next window.

        :raises MetadataUnreachable: the server does not answer within the setting ``metadata_timeout``, or
            the connection is missing.
        :raises MetadataRejected: the server answers with an error, such as a missing table.
        """
        statements = [_select_genome_events()]
        statements += [_select_database_events(*pair) for pair in tables.DATABASE_EVENTS]
        events: list[MetadataEvent] = []
        with self.connect_read_only() as connection:
            for statement in statements:
                time = statement.selected_columns["creation_time"]
                in_window = statement.where(time >= _naive_utc(start), time < _naive_utc(end))
                events += [MetadataEvent(**row) for row in connection.execute(in_window).mappings()]
        return sorted(events, key=lambda event: (event.creation_time, event.table, event.id))

    @contextmanager
    def connect_read_only(self) -> Iterator[Connection]:
        """
        Open a read-only connection with UTC times, and close it again.

        :raises MetadataUnreachable: as :meth:`list_events`; also for errors of statements inside.
        :raises MetadataRejected: as :meth:`list_events`; also for errors of statements inside.
        """
        try:
            engine_args = engine_args_from_connection(
                self.get_connection(self.metadata_conn_id), settings.metadata_timeout()
            )
            with make_engine(engine_args, poolclass=NullPool).connect() as connection:
                connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
                connection.commit()
                yield connection
        except AirflowNotFoundException as error:
            raise MetadataUnreachable(
                self.metadata_conn_id,
                f"Airflow has no connection of this name, or its URL is invalid: {addresses.ADVICE}",
            ) from error
        except (SQLAlchemyError, ValueError) as error:
            reason = str(getattr(error, "orig", None) or error)
            error_class = MetadataUnreachable if is_temporary(error) else MetadataRejected
            raise error_class(self.metadata_conn_id, reason) from error


def _select_genome_events() -> Select[Any]:
    event, genome = tables.genome_event, tables.genome
    joined = (
        event.join(genome, genome.c.genome_id == event.c.subject_id)
        .join(tables.organism, tables.organism.c.organism_id == genome.c.organism_id)
        .join(tables.assembly, tables.assembly.c.assembly_id == genome.c.assembly_id)
        .join(tables.division, tables.division.c.division_id == genome.c.division_id)
        .join(tables.data_release, tables.data_release.c.data_release_id == genome.c.data_release_id)
    )
    return _select_events(
        event,
        name=tables.organism.c.name,
        subject=tables.organism.c.name,
        assembly=tables.assembly.c.assembly_default,
        assembly_accession=tables.assembly.c.assembly_accession,
        genebuild=genome.c.genebuild,
    ).select_from(joined)


def _select_database_events(event: Table, subject: Table) -> Select[Any]:
    """Select the events without a genome, of one kind of database."""
    joined = (
        event.join(subject, subject.c.id == event.c.subject_id)
        .join(tables.division, tables.division.c.division_id == subject.c.division_id)
        .join(tables.data_release, tables.data_release.c.data_release_id == subject.c.data_release_id)
    )
    return _select_events(event, subject=subject.c.dbname).select_from(joined)


def _select_events(event: Table, **columns: Any) -> Select[Any]:
    """Select the fields of :class:`MetadataEvent`; fields without a column are null."""
    columns |= {
        "table": literal(event.name, String),
        "division": tables.division.c.name,
        "release": tables.data_release.c.ensembl_version,
        "eg_release": tables.data_release.c.ensembl_genomes_version,
    }
    common = [event.c[name] for name in ("id", "type", "source", "creation_time", "details")]
    names = MetadataEvent.__dataclass_fields__.keys() - {column.key for column in common}
    return select(
        *(column.label(column.key) for column in common),
        *(columns.get(name, null()).label(name) for name in sorted(names)),
    )


def _naive_utc(instant: datetime) -> datetime:
    """Return an instant as the database stores it: UTC, without a zone."""
    return instant.astimezone(UTC).replace(tzinfo=None)
