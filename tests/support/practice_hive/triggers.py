"""eHive's optional triggers: the database itself keeps the counters of ``analysis_stats``."""

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
    """Make the triggers on ``job`` and ``role``, and tell eHive's clients of them in ``hive_meta``."""
    is_mysql = engine.dialect.name == "mysql"
    arrived = _count("NEW", "+", ", status = CASE WHEN status = 'EMPTY' THEN 'READY' ELSE status END")
    moved = f"{_count('OLD', '-')} {_count('NEW', '+')}"
    moves = "OLD.status <> NEW.status OR OLD.analysis_id <> NEW.analysis_id"
    on_update = (
        f"BEGIN IF {moves} THEN {moved} END IF; END" if is_mysql else f"WHEN {moves} BEGIN {moved} END"
    )
    finished = "OLD.when_finished IS NULL AND NEW.when_finished IS NOT NULL"
    statements = (
        f"CREATE TRIGGER add_job AFTER INSERT ON job FOR EACH ROW BEGIN {arrived} END",
        f"CREATE TRIGGER delete_job AFTER DELETE ON job FOR EACH ROW BEGIN {_count('OLD', '-')} END",
        f"CREATE TRIGGER update_job AFTER UPDATE ON job FOR EACH ROW {on_update}",
        f"CREATE TRIGGER add_role AFTER INSERT ON role FOR EACH ROW BEGIN {_staff('+', '1 = 1')} END",
        f"CREATE TRIGGER update_role AFTER UPDATE ON role FOR EACH ROW BEGIN {_staff('-', finished)} END",
        "INSERT INTO hive_meta (meta_key, meta_value) VALUES ('hive_use_triggers', '1')",
    )
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def _count(row: str, sign: str, more: str = "") -> str:
    changes = [f"total_job_count = total_job_count {sign} 1"]
    for counter, statuses in COUNTERS.items():
        among = ", ".join(f"'{status}'" for status in statuses)
        changes.append(
            f"{counter} = {counter} {sign} (CASE WHEN {row}.status IN ({among}) THEN 1 ELSE 0 END)"
        )
    return f"UPDATE analysis_stats SET {', '.join(changes)}{more} WHERE analysis_id = {row}.analysis_id;"


def _staff(sign: str, condition: str) -> str:
    change = f"num_running_workers = num_running_workers {sign} 1"
    return f"UPDATE analysis_stats SET {change} WHERE analysis_id = NEW.analysis_id AND {condition};"
