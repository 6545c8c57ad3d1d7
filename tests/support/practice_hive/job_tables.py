"""The tables of a hive for its jobs, semaphores and their data."""

from __future__ import annotations

from sqlalchemy import CHAR, TEXT, TIMESTAMP, Column, Index, MetaData, UniqueConstraint
from sqlalchemy.dialects import mysql

from tests.support.practice_hive.columns import JOB_STATUSES, add_table, choice, key, number, words

LONG_TEXT = TEXT().with_variant(mysql.MEDIUMTEXT(), "mysql")


def describe(hive: MetaData, *, is_stock: bool) -> None:
    """Add ``job``, ``semaphore``, ``accu`` and ``analysis_data``; ``is_stock``: see ``tables.create``."""
    add_table(
        hive,
        "job",
        key("job_id"),
        number("prev_job_id"),
        number("analysis_id", nullable=False),
        Column("input_id", CHAR(255) if is_stock else TEXT, nullable=False),
        Column("param_id_stack", CHAR(64), nullable=False, server_default=""),
        Column("accu_id_stack", CHAR(64), nullable=False, server_default=""),
        number("role_id"),
        choice("status", JOB_STATUSES, "READY"),
        number("retry_count", 0),
        Column("when_completed", TIMESTAMP, nullable=True),
        number("runtime_msec"),
        number("query_count"),
        number("controlled_semaphore_id"),
        Index("analysis_status_retry", "analysis_id", "status", "retry_count"),
        Index("role_status", "role_id", "status"),
        *[
            UniqueConstraint(
                "input_id", "param_id_stack", "accu_id_stack", "analysis_id", name="input_id_stacks_analysis"
            )
        ]
        * is_stock,
    )
    add_table(
        hive,
        "semaphore",
        key("semaphore_id"),
        number("local_jobs_counter", 0, nullable=True),
        number("remote_jobs_counter", 0, nullable=True),
        number("dependent_job_id", unique=True),
        words("dependent_semaphore_url"),
    )
    add_table(
        hive,
        "accu",
        number("sending_job_id"),
        number("receiving_semaphore_id", nullable=False),
        words("struct_name", nullable=False),
        words("key_signature", nullable=False),
        Column("value", LONG_TEXT),
        Index("accu_sending_idx", "sending_job_id"),
        Index("accu_receiving_idx", "receiving_semaphore_id"),
    )
    add_table(
        hive,
        "analysis_data",
        key("analysis_data_id"),
        Column("md5sum", CHAR(32), nullable=False),
        Column("data", LONG_TEXT, nullable=False),
        Index("analysis_data_md5sum_idx", "md5sum"),
    )
