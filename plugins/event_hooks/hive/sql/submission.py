"""
Put jobs into a hive: statements on a connection that is inside a transaction.

A bare INSERT is noticed by no beekeeper: the counters of ``analysis_stats`` and its status LOADING tell that
there is work. How ``seed_pipeline.pl`` does it, and what each step prevents, was tried on eHive 2.5 to 2.8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sqlalchemy import Case, Connection, case, insert, select, update

from event_hooks.exceptions import AnalysisNotFound, HiveRejected, HiveTooOld
from event_hooks.hive.sql.tables import analysis_base, analysis_data, analysis_stats, chunks, hive_meta, job

OLDEST_SCHEMA = 89
"""The patch that brought the table ``semaphore``; eHive 2.5 has 94. What came before has other columns."""

_EXTENDED = "_extended_data_id "

MAX_INPUT_ID = 255
"""Longer inputs go to ``analysis_data``, as eHive itself does it in every version."""


def submit(connection: Connection, hive: str, analysis: str, inputs: Sequence[str]) -> list[int]:
    """
    Give each input its job, and make the jobs that are missing.

    The row lock on the analysis's statistics lets one submission at a time look and insert, so an input has
    one job however often and from wherever it is submitted.

    :param connection: in a transaction that sees what others have committed (READ COMMITTED, or SQLite).
    :param hive: its name in error messages.
    :param inputs: Perl hashes, all different, ASCII.
    :return: ``job.job_id`` of each input, in the inputs' order.
    :raises HiveTooOld: before anything is written.
    :raises AnalysisNotFound: before anything is written.
    """
    analysis_id = find_analysis(connection, hive, analysis)
    if not _locked(connection, analysis_id):
        raise HiveRejected(hive, f"its analysis {analysis!r} has no row in analysis_stats")
    held = _held(connection, analysis_id, inputs)
    missing = [text for text in inputs if text not in held]
    if missing:
        _insert(connection, analysis_id, missing)
        _announce(connection, analysis_id, len(missing))
        held |= _held(connection, analysis_id, missing)
    return [held[text] for text in inputs]


def find_analysis(connection: Connection, hive: str, analysis: str) -> int:
    """
    Give the ``analysis_id`` of an analysis in a hive that we can work with.

    :raises HiveTooOld: if the hive's tables are.
    :raises AnalysisNotFound: if it is not there.
    """
    version = _meta(connection).get("hive_sql_schema_version")
    if version is None or not version.isdigit() or int(version) < OLDEST_SCHEMA:
        raise HiveTooOld(hive, version, OLDEST_SCHEMA)
    analysis_id = connection.scalar(
        select(analysis_base.c.analysis_id).where(analysis_base.c.logic_name == analysis)
    )
    if analysis_id is None:
        raise AnalysisNotFound(hive, analysis)
    return int(analysis_id)


def _meta(connection: Connection) -> dict[str, str]:
    asked = ("hive_sql_schema_version", "hive_use_triggers")
    rows = connection.execute(
        select(hive_meta.c.meta_key, hive_meta.c.meta_value).where(hive_meta.c.meta_key.in_(asked))
    )
    return {row.meta_key: row.meta_value for row in rows}


def _locked(connection: Connection, analysis_id: int) -> bool:
    """Lock the analysis's statistics: an UPDATE that changes nothing does, in MySQL and in SQLite."""
    stats = analysis_stats.c
    unchanged = update(analysis_stats).where(stats.analysis_id == analysis_id).values(status=stats.status)
    return connection.execute(unchanged).rowcount == 1


def find(connection: Connection, analysis_id: int, inputs: Sequence[str]) -> dict[str, list[int]]:
    """
    Give the jobs that hold one of these inputs, compared here because a hive ignores letter case.

    :return: ``{input: job ids, sorted}``, without the inputs that have none.
    """
    texts = {text: text for text in inputs if len(text) <= MAX_INPUT_ID}
    texts |= {_extended(data_id): text for text, data_id in _overflowed(connection, inputs).items()}
    found: dict[str, list[int]] = {}
    for some in chunks(list(texts)):
        rows = select(job.c.input_id, job.c.job_id).where(
            job.c.analysis_id == analysis_id, job.c.input_id.in_(some)
        )
        for row in connection.execute(rows.order_by(job.c.job_id)):
            if row.input_id in texts:
                found.setdefault(texts[row.input_id], []).append(row.job_id)
    return found


def _held(connection: Connection, analysis_id: int, inputs: Sequence[str]) -> dict[str, int]:
    return {text: job_ids[0] for text, job_ids in find(connection, analysis_id, inputs).items()}


def _insert(connection: Connection, analysis_id: int, inputs: Sequence[str]) -> None:
    overflowed = _overflowed(connection, inputs)
    too_long = [text for text in inputs if len(text) > MAX_INPUT_ID and text not in overflowed]
    if too_long:
        connection.execute(insert(analysis_data), [{"md5sum": _md5(text), "data": text} for text in too_long])
        overflowed |= _overflowed(connection, too_long)
    input_ids = [_extended(overflowed[text]) if text in overflowed else text for text in inputs]
    connection.execute(insert(job), [_job_row(analysis_id, input_id) for input_id in input_ids])


def _overflowed(connection: Connection, inputs: Sequence[str]) -> dict[str, int]:
    by_md5 = {_md5(text): text for text in inputs if len(text) > MAX_INPUT_ID}
    found: dict[str, int] = {}
    for some in chunks(list(by_md5)):
        rows = select(analysis_data).where(analysis_data.c.md5sum.in_(some))
        for row in connection.execute(rows.order_by(analysis_data.c.analysis_data_id)):
            if by_md5.get(row.md5sum) == row.data:
                found.setdefault(row.data, row.analysis_data_id)
    return found


def _announce(connection: Connection, analysis_id: int, count: int) -> None:
    stats = analysis_stats.c
    counted = (
        {}
        if has_triggers(connection)
        else {
            "total_job_count": stats.total_job_count + count,
            "ready_job_count": stats.ready_job_count + count,
        }
    )
    connection.execute(
        update(analysis_stats).where(stats.analysis_id == analysis_id).values(**counted, status=announced())
    )


def has_triggers(connection: Connection) -> bool:
    """Tell whether the database keeps the counters of ``analysis_stats`` itself."""
    return _meta(connection).get("hive_use_triggers") == "1"


def announced() -> Case[str]:
    """Give the status that makes a beekeeper look at an analysis again; BLOCKED stays."""
    return case((analysis_stats.c.status == "BLOCKED", "BLOCKED"), else_="LOADING")


def _job_row(analysis_id: int, input_id: str) -> dict[str, object]:
    """Give the row that ``seed_pipeline.pl`` would make."""
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


def extended_id(input_id: str) -> int | None:
    """Give the ``analysis_data_id`` that an ``input_id`` names instead of holding the input, if it does."""
    number = input_id.removeprefix(_EXTENDED)
    return int(number) if number != input_id and number.isdecimal() else None


def _extended(data_id: int) -> str:
    return f"{_EXTENDED}{data_id}"


def _md5(text: str) -> str:
    return hashlib.md5(text.encode("ascii"), usedforsecurity=False).hexdigest()
