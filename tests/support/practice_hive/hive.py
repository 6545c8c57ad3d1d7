"""The changes of a worker in a hive's database, apart from those of its jobs."""

from __future__ import annotations

from functools import cached_property
from hashlib import md5
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from tests.support.practice_hive.database import Database
from tests.support.practice_hive.triggers import COUNTERS

if TYPE_CHECKING:
    from collections.abc import Sequence


class Analysis(NamedTuple):
    """The columns of an analysis that a beekeeper reads."""

    analysis_id: int
    logic_name: str
    status: str
    ready_job_count: int


class Hive(Database):
    """A hive's database, with the statistics that eHive updates at every change."""

    @cached_property
    def uses_triggers(self) -> bool:
        """Whether triggers of the database update the counters."""
        return bool(
            self.read("SELECT 1 FROM hive_meta WHERE meta_key='hive_use_triggers' AND meta_value='1'")
        )

    @cached_property
    def tables(self) -> set[str]:
        """The names of the tables that exist."""
        return set(inspect(self.engine).get_table_names())

    @cached_property
    def analysis_ids(self) -> dict[str, int]:
        """``{logic_name: analysis_id}``."""
        rows = self.read("SELECT logic_name, analysis_id FROM analysis_base")
        return {row.logic_name: row.analysis_id for row in rows}

    def list_analyses_with_work(self) -> Sequence[Analysis]:
        """
        Return the analyses to which a beekeeper sends workers, last stages first.

        Like eHive, it reads ``analysis_stats`` only and ignores a job that is not counted there.
        """
        waiting = self._list_waiting_analyses()
        for analysis in waiting:
            if analysis.status == "LOADING":
                self.synchronize(analysis.analysis_id)
        if any(analysis.status == "LOADING" for analysis in waiting):
            waiting = self._list_waiting_analyses()
        return [analysis for analysis in waiting if analysis.ready_job_count > 0]

    def _list_waiting_analyses(self) -> Sequence[Analysis]:
        rows = self.read(
            "SELECT analysis_id, logic_name, status, ready_job_count FROM analysis_stats JOIN analysis_base"
            " USING (analysis_id) WHERE is_excluded=0 AND status NOT IN ('BLOCKED', 'EMPTY', 'DONE')"
            " AND (status='LOADING' OR ready_job_count > 0) ORDER BY priority DESC, analysis_id"
        )
        return [Analysis(**row._mapping) for row in rows]

    def is_idle(self) -> bool:
        """Return whether no job is READY or runs."""
        return not self.read(
            "SELECT 1 FROM job WHERE status NOT IN ('SEMAPHORED','DONE','FAILED','PASSED_ON') LIMIT 1"
        )

    def synchronize(self, analysis_id: int) -> None:
        """
        Update counters and status of an analysis, as eHive's safe-sync does.

        It needs its own transaction: the lock is first, so the count includes all earlier transactions.
        """

        def update(connection: Connection) -> None:
            values = {"analysis_id": analysis_id}
            connection.execute(
                text("UPDATE analysis_stats SET sync_lock=1 WHERE analysis_id=:analysis_id"), values
            )
            if not self.uses_triggers:
                statement = text(
                    f"UPDATE analysis_stats SET {', '.join(_SET_COUNTERS)} WHERE analysis_id=:analysis_id"
                )
                connection.execute(statement, {**values, **_count_jobs(connection, analysis_id)})
            connection.execute(text(_DETERMINE_STATUS), values)

        self.write(update)

    def count_new_job(self, connection: Connection, analysis_id: int, status: str) -> None:
        """Count a new job in the transaction that inserts it, unless triggers do."""
        if not self.uses_triggers:
            counter = "ready_job_count" if status == "READY" else "semaphored_job_count"
            statement = (
                f"UPDATE analysis_stats SET total_job_count=total_job_count+1, {counter}={counter}+1,"
                " status=CASE WHEN status='BLOCKED' THEN 'BLOCKED' ELSE 'LOADING' END"
                " WHERE analysis_id=:analysis_id"
            )
            connection.execute(text(statement), {"analysis_id": analysis_id})

    def fetch_overflow(self, data_id: int) -> str | None:
        """Return the text of an ``_extended_data_id``; as in eHive, a missing text is no error."""
        rows = self.read("SELECT data FROM analysis_data WHERE analysis_data_id=:data_id", data_id=data_id)
        return str(rows[0][0]) if rows else None

    def store_overflow(self, data: str) -> int:
        """Return the id of a text in ``analysis_data``; equal texts share one row."""
        values = {"md5sum": md5(data.encode(), usedforsecurity=False).hexdigest(), "data": data}
        rows = self.read(
            "SELECT MIN(analysis_data_id) FROM analysis_data WHERE md5sum=:md5sum AND data=:data", **values
        )
        insert = text("INSERT INTO analysis_data (md5sum, data) VALUES (:md5sum, :data)")
        return int(rows[0][0] or self.write(lambda connection: connection.execute(insert, values).lastrowid))

    def log_message(self, job_id: int, msg: str, message_class: str, status: str | None = None) -> None:
        """
        Log a message of a job, with the job's attempt and with ``status`` or, by default, the job's status.

        A text that the latin1 column cannot store is replaced by the database's error, as in eHive.
        """
        statement = text(
            "INSERT INTO log_message (job_id, role_id, worker_id, retry, status, msg, message_class)"
            " SELECT job_id, role_id, worker_id, retry_count, COALESCE(:status, status), :msg, :message_class"
            " FROM job LEFT JOIN role USING (role_id) WHERE job_id=:job_id"
        )
        values: dict[str, Any] = {"job_id": job_id, "message_class": message_class, "status": status}
        try:
            self.write(lambda connection: connection.execute(statement, {**values, "msg": msg}))
        except DBAPIError as error:
            error_text = str(error.orig).encode("ascii", "replace").decode()
            self.write(lambda connection: connection.execute(statement, {**values, "msg": error_text}))


_SET_COUNTERS = [f"{counter}=:{counter}" for counter in ("total_job_count", *COUNTERS)]

# The conditions and their order are those of determine_status in AnalysisStats.pm.
_DETERMINE_STATUS = """
UPDATE analysis_stats SET sync_lock=0, when_updated=CURRENT_TIMESTAMP, status=CASE
    WHEN status='BLOCKED' THEN 'BLOCKED'
    WHEN total_job_count=0 THEN 'EMPTY'
    WHEN total_job_count=done_job_count+failed_job_count THEN
        CASE WHEN failed_job_count * 100 > total_job_count * (
            SELECT failed_job_tolerance FROM analysis_base
            WHERE analysis_base.analysis_id=analysis_stats.analysis_id
        ) THEN 'FAILED' ELSE 'DONE' END
    WHEN ready_job_count=0 THEN 'ALL_CLAIMED'
    WHEN total_job_count=semaphored_job_count+ready_job_count+done_job_count+failed_job_count THEN 'READY'
    ELSE 'WORKING' END
WHERE analysis_id=:analysis_id
"""


def _count_jobs(connection: Connection, analysis_id: int) -> dict[str, int]:
    query = text("SELECT status, COUNT(*) FROM job WHERE analysis_id=:analysis_id GROUP BY status")
    rows = connection.execute(query, {"analysis_id": analysis_id})
    counts: dict[str, int] = {status: count for status, count in rows}
    counters = {name: sum(counts.get(status, 0) for status in COUNTERS[name]) for name in COUNTERS}
    return {"total_job_count": sum(counts.values()), **counters}
