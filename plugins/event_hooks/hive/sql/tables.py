"""
SQLAlchemy Core definitions of the columns of eHive's tables that event hooks reads or writes.

Source: ``sql/tables.mysql`` and ``sql/tables.sqlite`` of ensembl-hive 2.5 to 2.8 (schema versions 94 to 97).
eHive does not create ``result`` and ``job_progress``: the event pipelines do, so these tables may be missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from more_itertools import sliced
from sqlalchemy import (
    Column,
    ColumnElement,
    DateTime,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    literal_column,
    or_,
    text,
)

CHUNK_ROWS = 1000
"""Rows that one statement selects by their ids or texts."""

RANGE_IDS = 100
"""Sorted ids that a statement selects by a range, if the range is short."""

MAX_RANGE_SPAN = 250
"""Difference between the last and the first of these ids, up to which the range is short."""

_tables = MetaData()

hive_meta = Table("hive_meta", _tables, Column("meta_key", String), Column("meta_value", Text))

analysis_base = Table(
    "analysis_base",
    _tables,
    Column("analysis_id", Integer, primary_key=True),
    Column("logic_name", String),
    Column("failed_job_tolerance", Integer),
)

analysis_stats = Table(
    "analysis_stats",
    _tables,
    Column("analysis_id", Integer, primary_key=True),
    Column("status", String),
    Column("total_job_count", Integer),
    Column("semaphored_job_count", Integer),
    Column("ready_job_count", Integer),
    Column("done_job_count", Integer),
    Column("failed_job_count", Integer),
    Column("is_excluded", Integer),
)

analysis_data = Table(
    "analysis_data",
    _tables,
    Column("analysis_data_id", Integer, primary_key=True),
    Column("md5sum", String),
    Column("data", Text),
)

job = Table(
    "job",
    _tables,
    Column("job_id", Integer, primary_key=True),
    Column("prev_job_id", Integer),
    Column("analysis_id", Integer),
    Column("input_id", Text),
    Column("param_id_stack", Text),
    Column("accu_id_stack", Text),
    Column("role_id", Integer),
    Column("status", String),
    Column("retry_count", Integer),
    Column("when_completed", DateTime),
    Column("runtime_msec", Integer),
    Column("query_count", Integer),
    Column("controlled_semaphore_id", Integer),
)

semaphore = Table(
    "semaphore",
    _tables,
    Column("semaphore_id", Integer, primary_key=True),
    Column("local_jobs_counter", Integer),
    Column("remote_jobs_counter", Integer),
    Column("dependent_job_id", Integer),
)

beekeeper = Table(
    "beekeeper",
    _tables,
    Column("beekeeper_id", Integer, primary_key=True),
    Column("meadow_host", String),
    Column("process_id", String),
    Column("cause_of_death", String),
    # and is_blocked, from eHive 2.6 on
)

worker = Table(
    "worker",
    _tables,
    Column("worker_id", Integer, primary_key=True),
    Column("meadow_host", String),
    Column("process_id", String),
    Column("status", String),
    Column("when_born", DateTime),
    Column("when_checked_in", DateTime),
    Column("when_seen", DateTime),
    Column("cause_of_death", String),
)

role = Table(
    "role",
    _tables,
    Column("role_id", Integer, primary_key=True),
    Column("worker_id", Integer),
    Column("when_finished", DateTime),
)

log_message = Table(
    "log_message",
    _tables,
    Column("log_message_id", Integer, primary_key=True),
    Column("job_id", Integer),
    Column("retry", Integer),
    Column("status", String),
    Column("message_class", String),
    Column("msg", Text),
)

result = Table("result", _tables, Column("job_id", Integer), Column("output", Text))

job_progress = Table(
    "job_progress",
    _tables,
    Column("job_progress_id", Integer, primary_key=True),
    Column("job_id", Integer),
    Column("message", Text),
)


def is_in(column: ColumnElement[Any], values: Iterable[int]) -> ColumnElement[bool]:
    """
    Build an IN condition with the numbers as literals in the statement's text.

    A driver's limit on the number of bound parameters does not apply to literals. Without values, the
    condition is ``IN (NULL)``, which no row fulfils.
    """
    return column.op("IN", is_comparison=True)(
        text(f"({', '.join(str(int(value)) for value in values) or 'NULL'})")
    )


def build_id_conditions(column: ColumnElement[Any], ids: Sequence[int]) -> Iterator[ColumnElement[bool]]:
    """
    Yield conditions that together select these ids.

    Jobs inserted together have adjacent ids. The server reads a range of ids faster than a list, even if it
    has to exclude as many others.

    :param ids: sorted, without duplicates.
    """
    ranges: list[range] = []
    listed_ids: list[int] = []
    for block in sliced(ids, RANGE_IDS):
        first, last = block[0], block[-1]
        if len(block) < RANGE_IDS or last - first > MAX_RANGE_SPAN:
            listed_ids.extend(block)
        elif ranges and first - ranges[-1].stop < RANGE_IDS:
            ranges[-1] = range(ranges[-1].start, last + 1)
        else:
            ranges.append(range(first, last + 1))
    if ranges:
        condition = or_(*(_is_between(column, span[0], span[-1]) for span in ranges))
        others = set[int]().union(*ranges).difference(ids)
        yield and_(condition, ~is_in(column, sorted(others))) if others else condition
    if listed_ids:  # a separate condition: MariaDB reads a long list slowly if it is combined with an OR
        yield is_in(column, listed_ids)


def _is_between(column: ColumnElement[Any], first: int, last: int) -> ColumnElement[bool]:
    return column.between(literal_column(str(first)), literal_column(str(last)))
