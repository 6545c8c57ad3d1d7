"""The tables of a hive for its settings, its analyses and their statistics."""

from __future__ import annotations

from sqlalchemy import INTEGER, SMALLINT, TEXT, TIMESTAMP, Column, MetaData

from tests.support.practice_hive.columns import ANALYSIS_STATUSES, add_table, choice, key, number, words


def describe(hive: MetaData) -> None:
    """Add ``hive_meta``, ``resource_class``, ``analysis_base`` and ``analysis_stats``."""
    add_table(hive, "hive_meta", words("meta_key", primary_key=True), Column("meta_value", TEXT))
    add_table(hive, "resource_class", key("resource_class_id"), words("name", nullable=False, unique=True))
    add_table(
        hive,
        "analysis_base",
        key("analysis_id"),
        words("logic_name", nullable=False, unique=True),
        words("module", nullable=False),
        words("language"),
        Column("parameters", TEXT),
        Column("comment", TEXT, nullable=False),
        words("tags", nullable=False, server_default=""),
        number("resource_class_id", nullable=False),
        words("meadow_type"),
        number("analysis_capacity"),
        number("hive_capacity"),
        number("batch_size", 1),
        number("priority", 0),
        number("can_be_empty", 0),
        number("failed_job_tolerance", 0),
        number("max_retry_count"),
    )
    counters = (
        "total_job_count",
        "semaphored_job_count",
        "ready_job_count",
        "done_job_count",
        "failed_job_count",
    )
    averages = (
        "avg_msec_per_job",
        "avg_input_msec_per_job",
        "avg_run_msec_per_job",
        "avg_output_msec_per_job",
    )
    add_table(
        hive,
        "analysis_stats",
        Column("analysis_id", INTEGER, primary_key=True, autoincrement=False),
        choice("status", ANALYSIS_STATUSES, "EMPTY"),
        number("is_excluded", 0),
        *(number(name, 0) for name in counters),
        number("num_running_workers", 0),
        *(number(name) for name in averages),
        Column("when_updated", TIMESTAMP, nullable=True),
        Column("sync_lock", SMALLINT, nullable=False, server_default="0"),
    )
