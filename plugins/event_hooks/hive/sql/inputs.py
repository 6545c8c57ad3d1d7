"""Inputs of jobs, by which event hooks recognizes its own jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from more_itertools import sliced
from sqlalchemy import Connection, Integer, Select, and_, cast, func, select

from event_hooks.hive.sql.tables import CHUNK_ROWS, analysis_data, is_in, job

EXTENDED_PREFIX = "_extended_data_id "
"""Beginning of an ``input_id`` that names a row of ``analysis_data``, which holds the input itself."""

_data_id = cast(func.substr(job.c.input_id, len(EXTENDED_PREFIX) + 1), Integer)

_INPUT = func.coalesce(analysis_data.c.data, job.c.input_id)

_JOBS_WITH_INPUTS = job.outerjoin(
    analysis_data,
    and_(
        job.c.input_id.startswith(EXTENDED_PREFIX, autoescape=True),
        analysis_data.c.analysis_data_id == _data_id,
    ),
)


def select_inputs(max_chars: int | None = None) -> Select[Any]:
    """
    Return a SELECT of ``job_id`` and the ``input`` of jobs.

    :param max_chars: characters after which an input is truncated; default: no limit.
    """
    shown = _INPUT if max_chars is None else func.substr(_INPUT, 1, max_chars)
    return select(job.c.job_id, shown.label("input")).select_from(_JOBS_WITH_INPUTS)


def find_foreign_jobs(connection: Connection, jobs: Mapping[int, str | None]) -> set[int]:
    """
    Return the jobs that have no row, or whose input lacks the expected token.

    A job id does not identify a job: a hive that is created again starts its ids at 1, and a connection may
    be changed to lead to another hive. Runs one statement for each 1,000 jobs.

    :param jobs: ``{job_id: text that the input contains}``; jobs with ``None`` are not checked.
    """
    tokens = {job_id: token for job_id, token in jobs.items() if token is not None}
    inputs = _load_inputs(connection, tokens)
    return {job_id for job_id, token in tokens.items() if token not in inputs.get(job_id, "")}


def _load_inputs(connection: Connection, job_ids: Iterable[int]) -> dict[int, str]:
    """Return ``{job_id: input}``; jobs without a row are left out."""
    rows = (
        row
        for chunk in sliced(list(job_ids), CHUNK_ROWS)
        for row in connection.execute(select_inputs().where(is_in(job.c.job_id, chunk)))
    )
    return {row.job_id: row.input for row in rows}
