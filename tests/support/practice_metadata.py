"""
A practice ensembl_metadata: the tables that event hooks read, and the changes of a handover.

Source: ensembl-metadata, ``sql/table.sql``; columns that event hooks do not read are left out.

    export PRACTICE_METADATA_URL=mysql://user:password@host:3306/name
    python -m tests.support.practice_metadata create
    python -m tests.support.practice_metadata event danio_rerio new_genebuild
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Engine, create_engine, text

from tests.support.practice_hive.database import parse_url

EVENT_TABLES = {
    "genome_event": "genome",
    "compara_analysis_event": "compara_analysis",
    "data_release_database_event": "data_release_database",
}
"""``{table: table of the events' subject}``."""

TABLES = (
    """CREATE TABLE data_release (data_release_id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        ensembl_version INT NOT NULL, ensembl_genomes_version INT, release_date DATE NOT NULL)""",
    """CREATE TABLE division (division_id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        name VARCHAR(32) NOT NULL UNIQUE)""",
    """CREATE TABLE organism (organism_id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        name VARCHAR(128) NOT NULL UNIQUE)""",
    """CREATE TABLE assembly (assembly_id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        assembly_accession VARCHAR(16), assembly_default VARCHAR(200) NOT NULL)""",
    """CREATE TABLE genome (genome_id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        data_release_id INT UNSIGNED NOT NULL, assembly_id INT UNSIGNED NOT NULL,
        organism_id INT UNSIGNED NOT NULL, division_id INT UNSIGNED NOT NULL, genebuild VARCHAR(64),
        UNIQUE (data_release_id, organism_id, division_id),
        FOREIGN KEY (data_release_id) REFERENCES data_release (data_release_id),
        FOREIGN KEY (assembly_id) REFERENCES assembly (assembly_id),
        FOREIGN KEY (organism_id) REFERENCES organism (organism_id),
        FOREIGN KEY (division_id) REFERENCES division (division_id))""",
    """CREATE TABLE compara_analysis (compara_analysis_id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        data_release_id INT UNSIGNED NOT NULL, division_id INT UNSIGNED NOT NULL,
        method VARCHAR(50) NOT NULL DEFAULT 'PROTEIN_TREES', set_name VARCHAR(128),
        dbname VARCHAR(64) NOT NULL)""",
    """CREATE TABLE data_release_database (data_release_database_id INT UNSIGNED NOT NULL AUTO_INCREMENT
        PRIMARY KEY, data_release_id INT UNSIGNED NOT NULL, dbname VARCHAR(64) NOT NULL,
        division_id INT UNSIGNED NOT NULL)""",
    *(
        f"""CREATE TABLE {name} ({name}_id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        {subject}_id INT UNSIGNED NOT NULL, type VARCHAR(32) NOT NULL, source VARCHAR(128),
        creation_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, details TEXT,
        FOREIGN KEY ({subject}_id) REFERENCES {subject} ({subject}_id) ON DELETE CASCADE)"""
        for name, subject in EVENT_TABLES.items()
    ),
)


class PracticeMetadata:
    """
    The database, with the changes that programs of Ensembl make in it.

    :param url: ``mysql://…/name`` of an empty database, of a user with all privileges.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine: Engine = create_engine(parse_url(url))

    def create(self) -> None:
        """Create missing tables, in latin1 as Ensembl's are, and release 113. Idempotent."""
        with self.engine.begin() as connection:
            for statement in TABLES:
                create = statement.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1)
                connection.exec_driver_sql(f"{create} ENGINE=InnoDB DEFAULT CHARSET=latin1")
            if not connection.execute(text("SELECT COUNT(*) FROM data_release")).scalar():
                self.add_release(connection, 113)

    def add_release(self, connection: Connection, version: int) -> int:
        """Add a release, in which all genomes get other ids, and return its id."""
        values = {"version": version, "eg": version - 53}
        return _insert(
            connection,
            "INSERT INTO data_release (ensembl_version, ensembl_genomes_version, release_date)"
            " VALUES (:version, :eg, '2026-10-01')",
            **values,
        )

    def add_genome(
        self,
        name: str,
        *,
        division: str = "EnsemblVertebrates",
        assembly: str = "GRCh38",
        genebuild: str | None = "2026-10",
        release: int = 113,
    ) -> int:
        """Return the id of a genome; add it if it is missing."""
        with self.engine.begin() as connection:
            return self.add_genomes(connection, [name], division, assembly, genebuild, release)[0]

    def add_genomes(
        self,
        connection: Connection,
        names: Iterable[str],
        division: str = "EnsemblVertebrates",
        assembly: str = "GRCh38",
        genebuild: str | None = "2026-10",
        release: int = 113,
    ) -> list[int]:
        """Return the ids of genomes in their order, and add missing ones, in the caller's transaction."""
        ids = []
        query = text("SELECT data_release_id FROM data_release WHERE ensembl_version = :release")
        release_id = connection.execute(query, {"release": release}).scalar_one()
        division_id = _find_or_add(connection, "division", division)
        for name in names:
            genome = {
                "release": release_id,
                "organism": _find_or_add(connection, "organism", name),
                "division": division_id,
                "genebuild": genebuild,
            }
            query = text(
                "SELECT genome_id FROM genome WHERE data_release_id = :release AND organism_id = :organism"
                " AND division_id = :division"
            )
            if (genome_id := connection.execute(query, genome).scalar()) is None:
                genome["assembly"] = _insert(
                    connection,
                    "INSERT INTO assembly (assembly_accession, assembly_default)"
                    " VALUES ('GCA_000001405', :name)",
                    name=assembly,
                )
                genome_id = _insert(
                    connection,
                    "INSERT INTO genome (data_release_id, assembly_id, organism_id, division_id, genebuild)"
                    " VALUES (:release, :assembly, :organism, :division, :genebuild)",
                    **genome,
                )
            ids.append(int(genome_id))
        return ids

    def add_event(self, genome_id: int, event_type: str = "new_genebuild", **columns: Any) -> int:
        """Write an event of a genome, as a handover does, and return its id."""
        with self.engine.begin() as connection:
            return write_event(connection, "genome_event", genome_id, event_type, **columns)

    def add_compara_event(self, event_type: str = "other", **columns: Any) -> int:
        """Write an event of a compara database, which has no genome, and return its id."""
        return self._database_event("compara_analysis", "ensembl_compara_113", event_type, columns)

    def add_mart_event(self, event_type: str = "other", **columns: Any) -> int:
        """Write an event of a mart, which has no genome, and return its id."""
        return self._database_event("data_release_database", "ensembl_mart_113", event_type, columns)

    def _database_event(self, subject: str, dbname: str, event_type: str, columns: dict[str, Any]) -> int:
        with self.engine.begin() as connection:
            subject_id = _insert(
                connection,
                f"INSERT INTO {subject} (data_release_id, division_id, dbname)"
                " VALUES (1, :division, :dbname)",
                division=_find_or_add(connection, "division", "EnsemblVertebrates"),
                dbname=dbname,
            )
            return write_event(connection, f"{subject}_event", subject_id, event_type, **columns)

    def replace_genome(self, name: str, assembly: str, **columns: Any) -> tuple[int, int]:
        """
        Replace a genome by one with a new assembly in the same release; its row and its events are deleted.

        :return: the new id of the genome, and the id of the new event.
        """
        with self.engine.begin() as connection:
            delete = text(
                "DELETE genome FROM genome JOIN organism USING (organism_id) WHERE organism.name = :name"
            )
            connection.execute(delete, {"name": name})
            (genome_id,) = self.add_genomes(connection, [name], assembly=assembly)
            return genome_id, write_event(connection, "genome_event", genome_id, "new_assembly", **columns)

    def add_collection(
        self, count: int, created_at: datetime, prefix: str = "bacterium", event_type: str = "new_genebuild"
    ) -> None:
        """Write the events of a collection database: one per genome, all in the same second."""
        with self.engine.begin() as connection:
            names = [f"{prefix}_{n:04d}" for n in range(count)]
            ids = self.add_genomes(connection, names, "EnsemblBacteria", "ASM1", None)
            details = _details("bacteria_0_collection_core_60_113_1")
            connection.execute(
                text(_INSERT.format(table="genome_event", subject="genome")),
                [
                    {
                        "subject_id": genome_id,
                        "event_type": event_type,
                        "source": "Handover",
                        "created_at": _to_utc(created_at),
                        "details": details,
                    }
                    for genome_id in ids
                ],
            )

    def wipe(self) -> None:
        """Delete genomes, other subjects and events; the next ids stay, because TRUNCATE is slow."""
        with self.engine.begin() as connection:
            connection.exec_driver_sql("SET FOREIGN_KEY_CHECKS = 0")
            for name in (*EVENT_TABLES, *EVENT_TABLES.values(), "organism", "assembly"):
                connection.exec_driver_sql(f"DELETE FROM {name}")
            connection.exec_driver_sql("DELETE FROM data_release WHERE ensembl_version > 113")
            connection.exec_driver_sql("SET FOREIGN_KEY_CHECKS = 1")

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()


@contextmanager
def temporary_metadata() -> Iterator[tuple[PracticeMetadata, str]]:
    """Yield a new ensembl_metadata, and its URL for a user with SELECT only; drop it at the end."""
    server, name = os.environ["MYSQL_URL"].rstrip("/"), f"metadata_{uuid4().hex[:16]}"
    with create_engine(parse_url(f"{server}/mysql")).begin() as root:
        root.exec_driver_sql(f"CREATE DATABASE {name}")
        root.exec_driver_sql(f"CREATE USER {name}@'%%' IDENTIFIED BY '{name}'")
        root.exec_driver_sql(f"GRANT SELECT ON {name}.* TO {name}@'%%'")
    metadata = PracticeMetadata(f"{server}/{name}")
    metadata.create()
    yield metadata, f"mysql://{name}:{name}@{server.rpartition('@')[2]}/{name}"
    metadata.close()
    with create_engine(parse_url(f"{server}/mysql")).begin() as root:
        root.exec_driver_sql(f"DROP DATABASE {name}")
        root.exec_driver_sql(f"DROP USER {name}@'%%'")


_INSERT = (
    "INSERT INTO {table} ({subject}_id, type, source, creation_time, details)"
    " VALUES (:subject_id, :event_type, :source, :created_at, :details)"
)


def write_event(
    connection: Connection,
    table: str,
    subject_id: int,
    event_type: str,
    *,
    created_at: datetime | None = None,
    source: str | None = "Handover",
    details: str | None = None,
) -> int:
    """Write an event in the caller's transaction, and return its id."""
    statement = _INSERT.format(table=table, subject=EVENT_TABLES[table])
    values = {
        "subject_id": subject_id,
        "event_type": event_type,
        "source": source,
        "created_at": _to_utc(created_at or datetime.now(UTC)),
        "details": _details("homo_sapiens_core_113_38") if details is None else details,
    }
    return _insert(connection, statement, **values)


def _to_utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(tzinfo=None, microsecond=0)


def _details(database: str) -> str:
    return json.dumps({"email": "someone@ebi.ac.uk", "comment": "new patches", "database": database})


def _find_or_add(connection: Connection, table: str, name: str) -> int:
    """Return the id of the row with a name; insert it if it is missing."""
    connection.execute(text(f"INSERT IGNORE INTO {table} (name) VALUES (:name)"), {"name": name})
    query = text(f"SELECT {table}_id FROM {table} WHERE name = :name")
    return int(connection.execute(query, {"name": name}).scalar_one())


def _insert(connection: Connection, statement: str, **values: Any) -> int:
    connection.exec_driver_sql("SET time_zone = '+00:00'")
    return int(connection.execute(text(statement), values).lastrowid)


def main() -> None:
    """Run the command of the command line: create the database, or write an event."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.practice_metadata", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("create", help="create the database and its tables; keep existing ones")
    event_parser = commands.add_parser("event", help="write an event of a genome, as a handover does")
    event_parser.add_argument("genome")
    event_parser.add_argument("type")
    arguments, url = parser.parse_args(), os.environ["PRACTICE_METADATA_URL"]
    server, _, name = url.rpartition("/")
    if arguments.command == "create":
        with create_engine(parse_url(f"{server}/mysql")).begin() as root:
            root.exec_driver_sql(f"CREATE DATABASE IF NOT EXISTS {name}")
    metadata = PracticeMetadata(url)
    if arguments.command == "create":
        metadata.create()
    else:
        event_id = metadata.add_event(metadata.add_genome(arguments.genome), arguments.type)
        print(f"genome_event {event_id}")
    metadata.close()


if __name__ == "__main__":
    main()
