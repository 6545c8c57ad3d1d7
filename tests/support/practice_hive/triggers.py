"""eHive's optional triggers, with which the database updates the counters of ``analysis_stats``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine

COUNTERS = {
    "semaphored_job_count": ("SEMAPHORED",),
    "ready_job_count": ("READY",),
    "done_job_count": ("DONE", "PASSED_ON"),
    "failed_job_count": ("FAILED",),
}


def create(engine: Engine) -> None:
    """Create the triggers on ``job`` and ``role``, and announce them to eHive's clients in ``hive_meta``."""
    is_mysql = engine.dialect.name == "mysql"
    on_insert = _count_jobs("NEW", "+", ", status = CASE WHEN status = 'EMPTY' THEN 'READY' ELSE status END")
    recount = f"{_count_jobs('OLD', '-')} {_count_jobs('NEW', '+')}"
    is_moved = "OLD.status <> NEW.status OR OLD.analysis_id <> NEW.analysis_id"
    on_update = (
        f"BEGIN IF {is_moved} THEN {recount} END IF; END"
        if is_mysql
        else f"WHEN {is_moved} BEGIN {recount} END"
    )
    is_finished = "OLD.when_finished IS NULL AND NEW.when_finished IS NOT NULL"
    statements = (
        f"CREATE TRIGGER add_job AFTER INSERT ON job FOR EACH ROW BEGIN {on_insert} END",
        f"CREATE TRIGGER delete_job AFTER DELETE ON job FOR EACH ROW BEGIN {_count_jobs('OLD', '-')} END",
        f"CREATE TRIGGER update_job AFTER UPDATE ON job FOR EACH ROW {on_update}",
        f"CREATE TRIGGER add_role AFTER INSERT ON role FOR EACH ROW BEGIN {_count_workers('+', '1 = 1')} END",
        "CREATE TRIGGER update_role AFTER UPDATE ON role FOR EACH ROW"
        f" BEGIN {_count_workers('-', is_finished)} END",
        "INSERT INTO hive_meta (meta_key, meta_value) VALUES ('hive_use_triggers', '1')",
    )
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def _count_jobs(row: str, sign: str, other_changes: str = "") -> str:
    changes = [f"total_job_count = total_job_count {sign} 1"]
    for counter, statuses in COUNTERS.items():
        values = ", ".join(f"'{status}'" for status in statuses)
        changes.append(
            f"{counter} = {counter} {sign} (CASE WHEN {row}.status IN ({values}) THEN 1 ELSE 0 END)"
        )
    assignments = f"{', '.join(changes)}{other_changes}"
    return f"UPDATE analysis_stats SET {assignments} WHERE analysis_id = {row}.analysis_id;"


def _count_workers(sign: str, condition: str) -> str:
    change = f"num_running_workers = num_running_workers {sign} 1"
    return f"UPDATE analysis_stats SET {change} WHERE analysis_id = NEW.analysis_id AND {condition};"
