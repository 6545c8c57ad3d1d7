"""All tables of a hive, and the foreign keys between them."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import INTEGER, TEXT, Column, ForeignKeyConstraint, MetaData

from tests.support.practice_hive import job_tables, pipeline_tables, worker_tables
from tests.support.practice_hive.columns import add_table, key, number

Variant = Literal["stock", "docs"]
CASCADE = "CASCADE"

# table and column, referenced table and column, ON DELETE action
FOREIGN_KEYS = (
    ("analysis_base", "resource_class_id", "resource_class", "resource_class_id", None),
    ("analysis_stats", "analysis_id", "analysis_base", "analysis_id", None),
    ("job", "analysis_id", "analysis_base", "analysis_id", None),
    ("job", "prev_job_id", "job", "job_id", CASCADE),
    ("job", "role_id", "role", "role_id", CASCADE),
    ("job", "controlled_semaphore_id", "semaphore", "semaphore_id", CASCADE),
    ("semaphore", "dependent_job_id", "job", "job_id", CASCADE),
    ("accu", "sending_job_id", "job", "job_id", CASCADE),
    ("accu", "receiving_semaphore_id", "semaphore", "semaphore_id", CASCADE),
    ("role", "analysis_id", "analysis_base", "analysis_id", None),
    ("role", "worker_id", "worker", "worker_id", CASCADE),
    ("worker", "resource_class_id", "resource_class", "resource_class_id", None),
    ("worker", "beekeeper_id", "beekeeper", "beekeeper_id", CASCADE),
    ("log_message", "job_id", "job", "job_id", CASCADE),
    ("log_message", "role_id", "role", "role_id", CASCADE),
    ("log_message", "worker_id", "worker", "worker_id", CASCADE),
    ("log_message", "beekeeper_id", "beekeeper", "beekeeper_id", CASCADE),
)


def describe(*, variant: Variant, has_foreign_keys: bool, with_result: bool, with_progress: bool) -> MetaData:
    """Return the tables of a hive; ``variant`` as of ``tables.create``, foreign keys for MySQL only."""
    hive = MetaData()
    pipeline_tables.describe(hive)
    job_tables.describe(hive, is_stock=variant == "stock")
    worker_tables.describe(hive)
    if with_result:
        add_table(
            hive,
            "result",
            Column("job_id", INTEGER, primary_key=True, autoincrement=False),
            Column("output", TEXT),
        )
    if with_progress:
        add_table(
            hive,
            "job_progress",
            key("job_progress_id"),
            number("job_id", nullable=False),
            Column("message", TEXT),
        )
    for name, from_column, to_table, to_column, on_delete in FOREIGN_KEYS if has_foreign_keys else ():
        foreign_key = ForeignKeyConstraint(
            [from_column], [f"{to_table}.{to_column}"], f"{name}_{from_column}_fkey", ondelete=on_delete
        )
        hive.tables[name].append_constraint(foreign_key)
    return hive
