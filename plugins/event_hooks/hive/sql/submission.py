"""
Submit jobs to a hive: SQL statements on a connection that is inside a transaction.

A beekeeper does not notice a bare INSERT: it detects new jobs by the counters of ``analysis_stats`` and by
the status LOADING. The steps follow ``seed_pipeline.pl``. The problem that each of them prevents was
reproduced on eHive 2.5 to 2.8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from more_itertools import sliced
from sqlalchemy import Case, Connection, bindparam, case, insert, select, update

from event_hooks.exceptions import AnalysisNotFound, HiveRejected, HiveTooOld
from event_hooks.hive.sql.inputs import EXTENDED_PREFIX
from event_hooks.hive.sql.tables import (
    CHUNK_ROWS,
    analysis_base,
    analysis_data,
    analysis_stats,
    hive_meta,
    job,
)

OLDEST_SCHEMA_VERSION = 89
"""The version that added the table ``semaphore``; eHive 2.5 has 94. Older versions have other columns."""

MAX_INPUT_ID_CHARS = 255
"""Longer inputs are stored in ``analysis_data``, as eHive itself does in every version."""


def submit_jobs(connection: Connection, hive: str, analysis: str, inputs: Sequence[str]) -> list[int]:
    """
    Insert a job for each input that has no job yet, and return the jobs of all inputs.

    Idempotent: the row lock on the analysis's statistics makes concurrent submissions wait for each other, so
    only one at a time searches and inserts. However often an input is submitted, and from any client, it has
    one job.

    :param connection: in a transaction that sees committed rows of others (READ COMMITTED, or SQLite).
    :param hive: name of the hive in error messages.
    :param analysis: ``analysis_base.logic_name``.
    :param inputs: Perl hashes, all different, ASCII.
    :return: ``job.job_id`` of each input, in the inputs' order.
    :raises HiveTooOld: before any write.
    :raises AnalysisNotFound: before any write.
    :raises HiveRejected: before any write, if the analysis has no row in ``analysis_stats``.
    """
    target = find_analysis(connection, hive, analysis)
    if not _lock_statistics(connection, target.analysis_id):
        raise HiveRejected(hive, f"its analysis {analysis!r} has no row in analysis_stats")
    job_ids = _find_first_jobs(connection, target.analysis_id, inputs)
    missing = [text for text in inputs if text not in job_ids]
    if missing:
        _insert_jobs(connection, target.analysis_id, missing)
        _update_statistics(connection, target, len(missing))
        job_ids |= _find_first_jobs(connection, target.analysis_id, missing)
    return [job_ids[text] for text in inputs]


@dataclass(frozen=True)
class Analysis:
    """An analysis, and the property of its hive on which a submission depends."""

    analysis_id: int
    has_counter_triggers: bool
    """Whether SQL triggers of the hive maintain the counters of ``analysis_stats``."""


def find_analysis(connection: Connection, hive: str, analysis: str) -> Analysis:
    """
    Return an analysis, after a check of the hive's schema version.

    The result is not cached: the database may be replaced by another hive while a connection is open.

    :raises HiveTooOld: if the schema version is older than :data:`OLDEST_SCHEMA_VERSION`.
    :raises HiveRejected: if the schema version is not set, as in a hive that is being created.
    :raises AnalysisNotFound: if the hive has no such analysis.
    """
    rows = connection.execute(_FIND_ANALYSIS, {"logic_name": analysis}).all()
    meta = {row.meta_key: row.meta_value for row in rows}
    version = meta.get("hive_sql_schema_version")
    if version is None:
        raise HiveRejected(hive, "its schema version is not set: it is no hive, or it is being created")
    if not version.isdigit() or int(version) < OLDEST_SCHEMA_VERSION:
        raise HiveTooOld(hive, version, OLDEST_SCHEMA_VERSION)
    analysis_id = rows[0].analysis_id
    if analysis_id is None:
        raise AnalysisNotFound(hive, analysis)
    return Analysis(analysis_id, meta.get("hive_use_triggers") == "1")


_FIND_ANALYSIS = (
    select(hive_meta.c.meta_key, hive_meta.c.meta_value, analysis_base.c.analysis_id)
    .select_from(hive_meta.outerjoin(analysis_base, analysis_base.c.logic_name == bindparam("logic_name")))
    .where(hive_meta.c.meta_key.in_(("hive_sql_schema_version", "hive_use_triggers")))
)


def _lock_statistics(connection: Connection, analysis_id: int) -> bool:
    """Lock the row of the analysis in ``analysis_stats``, and return whether it exists."""
    return connection.execute(_LOCK_STATISTICS, {"analysis": analysis_id}).rowcount == 1


# An UPDATE that changes no value takes the lock, in MySQL and in SQLite.
_LOCK_STATISTICS = (
    update(analysis_stats)
    .where(analysis_stats.c.analysis_id == bindparam("analysis"))
    .values(status=analysis_stats.c.status)
)


def find_jobs(connection: Connection, analysis_id: int, inputs: Sequence[str]) -> dict[str, list[int]]:
    """
    Return the jobs of an analysis that have one of these inputs.

    The texts are compared again in Python, because a hive's collation ignores letter case.

    :return: ``{input: sorted job ids}``; inputs without a job are left out.
    """
    texts = {text: text for text in inputs if len(text) <= MAX_INPUT_ID_CHARS}
    texts |= {_extended_id(data_id): text for text, data_id in _find_long_inputs(connection, inputs).items()}
    job_ids: dict[str, list[int]] = {}
    for chunk in sliced(list(texts), CHUNK_ROWS):
        values = {"analysis": analysis_id, "input_ids": chunk}
        for input_id, job_id in connection.execute(_FIND_JOBS, values):
            if input_id in texts:
                job_ids.setdefault(texts[input_id], []).append(job_id)
    return job_ids


_FIND_JOBS = (
    select(job.c.input_id, job.c.job_id)
    .where(job.c.analysis_id == bindparam("analysis"))
    .where(job.c.input_id.in_(bindparam("input_ids", expanding=True)))
    .order_by(job.c.job_id)
)


def _find_first_jobs(connection: Connection, analysis_id: int, inputs: Sequence[str]) -> dict[str, int]:
    return {text: job_ids[0] for text, job_ids in find_jobs(connection, analysis_id, inputs).items()}


def _insert_jobs(connection: Connection, analysis_id: int, inputs: Sequence[str]) -> None:
    data_ids = _find_long_inputs(connection, inputs)
    missing = [text for text in inputs if len(text) > MAX_INPUT_ID_CHARS and text not in data_ids]
    if missing:
        connection.execute(insert(analysis_data), [{"md5sum": _md5(text), "data": text} for text in missing])
        data_ids |= _find_long_inputs(connection, missing)
    input_ids = [_extended_id(data_ids[text]) if text in data_ids else text for text in inputs]
    connection.execute(insert(job), [_build_job_row(analysis_id, input_id) for input_id in input_ids])


def _find_long_inputs(connection: Connection, inputs: Sequence[str]) -> dict[str, int]:
    """Return ``{input: analysis_data_id}`` of the long inputs that ``analysis_data`` holds."""
    texts = {_md5(text): text for text in inputs if len(text) > MAX_INPUT_ID_CHARS}
    data_ids: dict[str, int] = {}
    for chunk in sliced(list(texts), CHUNK_ROWS):
        statement = select(analysis_data).where(analysis_data.c.md5sum.in_(chunk))
        for row in connection.execute(statement.order_by(analysis_data.c.analysis_data_id)):
            if texts.get(row.md5sum) == row.data:
                data_ids.setdefault(row.data, row.analysis_data_id)
    return data_ids


def _update_statistics(connection: Connection, analysis: Analysis, count: int) -> None:
    if analysis.has_counter_triggers:
        connection.execute(_REQUEST_CHECK, {"analysis": analysis.analysis_id})
    else:
        connection.execute(_ADD_READY_JOBS, {"analysis": analysis.analysis_id, "count": count})


def has_counter_triggers(connection: Connection) -> bool:
    """Return whether SQL triggers of the hive maintain the counters of ``analysis_stats``."""
    statement = select(hive_meta.c.meta_value).where(hive_meta.c.meta_key == "hive_use_triggers")
    return connection.scalar(statement) == "1"


def status_after_submit() -> Case[str]:
    """Build the status of an analysis that makes a beekeeper check it for new jobs; BLOCKED stays."""
    return case((analysis_stats.c.status == "BLOCKED", "BLOCKED"), else_="LOADING")


_REQUEST_CHECK = (
    update(analysis_stats)
    .where(analysis_stats.c.analysis_id == bindparam("analysis"))
    .values(status=status_after_submit())
)
_ADD_READY_JOBS = _REQUEST_CHECK.values(
    total_job_count=analysis_stats.c.total_job_count + bindparam("count"),
    ready_job_count=analysis_stats.c.ready_job_count + bindparam("count"),
)


def _build_job_row(analysis_id: int, input_id: str) -> dict[str, object]:
    """Return the row that ``seed_pipeline.pl`` would insert."""
    return {
        "prev_job_id": None,
        "analysis_id": analysis_id,
        "input_id": input_id,
        "param_id_stack": "",
        "accu_id_stack": "",
        "status": "READY",
        "retry_count": 0,
        "runtime_msec": 0,
        "query_count": 0,
    }


def _extended_id(data_id: int) -> str:
    return f"{EXTENDED_PREFIX}{data_id}"


def _md5(text: str) -> str:
    return hashlib.md5(text.encode("ascii"), usedforsecurity=False).hexdigest()
