"""The column types of eHive, and the values of its enumerations."""

from __future__ import annotations

from typing import Any

from sqlalchemy import INTEGER, VARCHAR, Column, Enum, MetaData, Table

JOB_STATUSES = [
    "SEMAPHORED",
    "READY",
    "CLAIMED",
    "COMPILATION",
    "PRE_CLEANUP",
    "FETCH_INPUT",
    "RUN",
    "WRITE_OUTPUT",
    "POST_HEALTHCHECK",
    "POST_CLEANUP",
    "DONE",
    "FAILED",
    "PASSED_ON",
]
ANALYSIS_STATUSES = [
    "BLOCKED",
    "LOADING",
    "SYNCHING",
    "EMPTY",
    "READY",
    "WORKING",
    "ALL_CLAIMED",
    "DONE",
    "FAILED",
]
WORKER_STATUSES = [
    "SUBMITTED",
    "SPECIALIZATION",
    "COMPILATION",
    "READY",
    "JOB_LIFECYCLE",
    "PRE_CLEANUP",
    "FETCH_INPUT",
    "RUN",
    "WRITE_OUTPUT",
    "POST_HEALTHCHECK",
    "POST_CLEANUP",
    "DEAD",
]
WORKER_DEATHS = [
    "NO_ROLE",
    "NO_WORK",
    "JOB_LIMIT",
    "HIVE_OVERLOAD",
    "LIFESPAN",
    "CONTAMINATED",
    "RELOCATED",
    "KILLED_BY_USER",
    "MEMLIMIT",
    "RUNLIMIT",
    "SEE_MSG",
    "LIMBO",
    "UNKNOWN",
]
BEEKEEPER_DEATHS = ["ANALYSIS_FAILED", "DISAPPEARED", "JOB_FAILED", "LOOP_LIMIT", "NO_WORK", "TASK_FAILED"]
MESSAGE_CLASSES = ["INFO", "PIPELINE_CAUTION", "PIPELINE_ERROR", "WORKER_CAUTION", "WORKER_ERROR"]

MYSQL_OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "latin1",
    "mysql_collate": "latin1_swedish_ci",
}


def add_table(hive: MetaData, name: str, *parts: Any) -> None:
    """Add a table to a hive; its columns, indices and keys are ``parts``."""
    # eHive never reuses a job_id, on SQLite either.
    Table(name, hive, *parts, sqlite_autoincrement=name not in ("analysis_stats", "result"), **MYSQL_OPTIONS)


def key(name: str) -> Column[Any]:
    """Return an integer primary key that the database generates."""
    return Column(name, INTEGER, primary_key=True)


def number(name: str, default: int | None = None, **options: Any) -> Column[Any]:
    """Return an integer column; NOT NULL if it has a default."""
    options.setdefault("nullable", default is None)
    return Column(name, INTEGER, server_default=None if default is None else str(default), **options)


def words(name: str, **options: Any) -> Column[Any]:
    """Return a column for a text of up to 255 characters."""
    return Column(name, VARCHAR(255), **options)


def choice(name: str, values: list[str], default: str | None = None, **options: Any) -> Column[Any]:
    """Return an enumeration column; NOT NULL if it has a default."""
    options.setdefault("nullable", default is None)
    return Column(name, Enum(*values), server_default=default, **options)
