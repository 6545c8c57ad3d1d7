"""
The creation of a hive's tables.

Names and types are those of eHive's own ``sql/tables.mysql`` (schema 97). Only the tables that a client or a
worker uses are here: https://github.com/Ensembl/ensembl-hive/tree/main/sql
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, TableClause, column, create_engine, insert, inspect, select, table, text

from tests.support.practice_hive import schema
from tests.support.practice_hive.database import connect, parse_url
from tests.support.practice_hive.triggers import create as create_triggers

if TYPE_CHECKING:
    from collections.abc import Sequence

# Suffixes of the analyses of each entry analysis, with their priorities: a later stage runs first, so that
# started trees finish before new ones start.
STAGES = {"": 0, "_again": 0, "_part": 1, "_merge": 2, "_after": 3}

META = table("hive_meta", column("meta_key"), column("meta_value"))
RESOURCE_CLASS = table("resource_class", column("resource_class_id"), column("name"))
ANALYSIS_BASE = table(
    "analysis_base",
    *map(column, ("analysis_id", "logic_name", "module", "comment")),
    *map(column, ("resource_class_id", "priority", "max_retry_count")),
)
ANALYSIS_STATS = table("analysis_stats", column("analysis_id"))


def create(
    url: str,
    *,
    analyses: Sequence[str] = ("event_dump_dna", "event_dump_peptide"),
    variant: schema.Variant = "stock",
    triggers: bool = False,
    schema_version: int = 97,
    with_result: bool = True,
    with_progress: bool = True,
) -> None:
    """
    Create a hive, and its database if it is missing. Idempotent; existing tables and rows are not changed.

    Each entry analysis ``x`` also has ``x_part`` (the fan), ``x_merge`` (the funnel), ``x_again`` (replaces a
    passed-on entry job) and ``x_after`` (runs after the funnel).

    :param variant: ``stock`` has ``input_id CHAR(255)`` and the unique key, ``docs`` TEXT and no unique key.
    :param triggers: whether triggers of the database update the counters of ``analysis_stats``.
    :param schema_version: the value in ``hive_meta``; the tables are always those of version 97.
    """
    engine = connect(parse_url(url))
    is_mysql = engine.dialect.name == "mysql"
    if is_mysql:
        _create_database(url)
    tables = schema.describe(
        variant=variant, has_foreign_keys=is_mysql, with_result=with_result, with_progress=with_progress
    )
    tables.create_all(engine)
    with engine.begin() as connection:
        _insert_rows(connection, analyses, {"hive_sql_schema_version": str(schema_version)})
        existing = {name for (name,) in connection.execute(select(META.c.meta_key))}
    if triggers and "hive_use_triggers" not in existing:
        create_triggers(engine)
    engine.dispose()


def _create_database(url: str) -> None:
    name = parse_url(url).database
    server = create_engine(parse_url(url).set(database=""), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        if name not in inspect(connection).get_schema_names():
            quoted = connection.dialect.identifier_preparer.quote_identifier(name or "")
            connection.execute(text(f"CREATE DATABASE IF NOT EXISTS {quoted} CHARACTER SET latin1"))
    server.dispose()


def _insert_rows(connection: Connection, analyses: Sequence[str], meta: dict[str, str]) -> None:
    meta |= {"hive_pipeline_name": "practice_hive", "hive_default_max_retry_count": "3"}
    _add_missing(connection, META, "meta_key", [{"meta_key": k, "meta_value": v} for k, v in meta.items()])
    _add_missing(connection, RESOURCE_CLASS, "name", [{"name": "default"}])
    resource_class_id = connection.scalar(select(RESOURCE_CLASS.c.resource_class_id))
    rows = [
        {
            "logic_name": name + suffix,
            "module": "Practice::Hive",
            "comment": "",
            "resource_class_id": resource_class_id,
            "priority": priority,
            "max_retry_count": 1,
        }
        for name in analyses
        for suffix, priority in STAGES.items()
    ]
    _add_missing(connection, ANALYSIS_BASE, "logic_name", rows)
    ids = connection.scalars(select(ANALYSIS_BASE.c.analysis_id)).all()
    _add_missing(
        connection, ANALYSIS_STATS, "analysis_id", [{"analysis_id": analysis_id} for analysis_id in ids]
    )


def _add_missing(connection: Connection, table: TableClause, key: str, rows: list[dict[str, object]]) -> None:
    existing = set(connection.scalars(select(table.c[key])))
    if missing := [row for row in rows if row[key] not in existing]:
        connection.execute(insert(table), missing)
