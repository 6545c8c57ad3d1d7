"""The tables of a hive for beekeepers, workers, roles and log messages."""

from __future__ import annotations

from sqlalchemy import TEXT, TIMESTAMP, Column, Float, Index, MetaData, text

from tests.support.practice_hive.columns import (
    BEEKEEPER_DEATHS,
    MESSAGE_CLASSES,
    WORKER_DEATHS,
    WORKER_STATUSES,
    add_table,
    choice,
    key,
    number,
    words,
)

NOW = text("CURRENT_TIMESTAMP")


def describe(hive: MetaData) -> None:
    """Add ``beekeeper``, ``worker``, ``role`` and ``log_message``."""
    add_table(
        hive,
        "beekeeper",
        key("beekeeper_id"),
        words("meadow_host", nullable=False),
        words("meadow_user", nullable=False),
        words("process_id", nullable=False),
        number("is_blocked", 0),
        choice("cause_of_death", BEEKEEPER_DEATHS),
        Column("sleep_minutes", Float),
        Column("analyses_pattern", TEXT),
        number("loop_limit"),
        choice("loop_until", ["ANALYSIS_FAILURE", "FOREVER", "JOB_FAILURE", "NO_WORK"], nullable=False),
        Column("options", TEXT),
        Column("meadow_signatures", TEXT),
    )
    add_table(
        hive,
        "worker",
        key("worker_id"),
        *(words(name, nullable=False) for name in ("meadow_type", "meadow_name")),
        *(words(name) for name in ("meadow_host", "meadow_user", "process_id")),
        number("resource_class_id"),
        number("work_done", 0),
        choice("status", WORKER_STATUSES, "READY"),
        number("beekeeper_id"),
        Column("when_submitted", TIMESTAMP, nullable=False, server_default=NOW),
        *(
            Column(f"when_{action}", TIMESTAMP, nullable=True)
            for action in ("born", "checked_in", "seen", "died")
        ),
        choice("cause_of_death", WORKER_DEATHS),
        words("temp_directory_name"),
        words("log_dir"),
    )
    add_table(
        hive,
        "role",
        key("role_id"),
        number("worker_id", nullable=False),
        number("analysis_id", nullable=False),
        Column("when_started", TIMESTAMP, nullable=False, server_default=NOW),
        Column("when_finished", TIMESTAMP, nullable=True),
        number("attempted_jobs", 0),
        number("done_jobs", 0),
    )
    add_table(
        hive,
        "log_message",
        key("log_message_id"),
        *(number(name) for name in ("job_id", "role_id", "worker_id", "beekeeper_id")),
        Column("when_logged", TIMESTAMP, nullable=False, server_default=NOW),
        number("retry"),
        words("status", nullable=False, server_default="UNKNOWN"),
        Column("msg", TEXT),
        choice("message_class", MESSAGE_CLASSES, "INFO"),
        Index("log_message_job_idx", "job_id"),
    )
