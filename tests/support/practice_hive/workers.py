"""The rows of a beekeeper, its workers and their roles in a hive."""

from __future__ import annotations

import getpass
import os
import socket
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

if TYPE_CHECKING:
    from tests.support.practice_hive.hive import Hive


class BeekeeperRecord:
    """A ``beekeeper`` row; the beekeeper counts as alive until ``end``."""

    def __init__(self, hive: Hive) -> None:
        self._hive = hive
        statement = text(
            "INSERT INTO beekeeper (meadow_host, meadow_user, process_id, sleep_minutes, loop_until)"
            " VALUES (:host, :user, :process, 0.1, 'FOREVER')"
        )
        stored = hive.write(lambda connection: connection.execute(statement, _describe_host()))
        self.beekeeper_id = int(stored.lastrowid)

    def end(self) -> None:
        """Record that the beekeeper has ended."""
        statement = text("UPDATE beekeeper SET cause_of_death='LOOP_LIMIT' WHERE beekeeper_id=:id")
        self._hive.write(lambda connection: connection.execute(statement, {"id": self.beekeeper_id}))


class WorkerRecord:
    """A ``worker`` row with its current role: a worker of eHive has one analysis at a time."""

    def __init__(self, hive: Hive, beekeeper_id: int) -> None:
        self._hive = hive
        self._role: tuple[int, int] | None = None
        statement = text(
            "INSERT INTO worker (meadow_type, meadow_name, meadow_host, meadow_user, process_id,"
            " beekeeper_id, when_born, when_checked_in) VALUES ('LOCAL', :host, :host, :user, :process,"
            " :beekeeper_id, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)"
        )
        values = {**_describe_host(), "beekeeper_id": beekeeper_id}
        self.worker_id = int(hive.write(lambda connection: connection.execute(statement, values).lastrowid))

    def enter_role(self, analysis_id: int) -> int:
        """Return the id of the role in an analysis; finish the role in another analysis."""
        if self._role and self._role[1] == analysis_id:
            return self._role[0]
        self.leave_role()
        statement = text("INSERT INTO role (worker_id, analysis_id) VALUES (:worker_id, :analysis_id)")
        values = {"worker_id": self.worker_id, "analysis_id": analysis_id}

        def start(connection: Connection) -> int:
            role_id = int(connection.execute(statement, values).lastrowid)
            self._count_running(connection, analysis_id, "+")
            return role_id

        role_id = self._hive.write(start)
        self._role = role_id, analysis_id
        return role_id

    def leave_role(self) -> None:
        """Finish the current role, if any."""
        if self._role is None:
            return
        (role_id, analysis_id), self._role = self._role, None
        statement = text("UPDATE role SET when_finished=CURRENT_TIMESTAMP WHERE role_id=:role_id")

        def finish(connection: Connection) -> None:
            connection.execute(statement, {"role_id": role_id})
            self._count_running(connection, analysis_id, "-")

        self._hive.write(finish)

    def count_attempt(self, *, done: bool) -> None:
        """Count an attempt of the current role, and record a sign of life."""
        role_id = self._role[0] if self._role else None
        role_update = "attempted_jobs=attempted_jobs+1, done_jobs=done_jobs+:done WHERE role_id=:id"
        worker_update = "work_done=work_done+:done, when_checked_in=CURRENT_TIMESTAMP WHERE worker_id=:id"

        def count(connection: Connection) -> None:
            connection.execute(text(f"UPDATE role SET {role_update}"), {"done": int(done), "id": role_id})
            connection.execute(
                text(f"UPDATE worker SET {worker_update}"), {"done": int(done), "id": self.worker_id}
            )

        self._hive.write(count)

    def end(self) -> None:
        """Finish the role, and record the end of the worker."""
        self.leave_role()
        statement = text(
            "UPDATE worker SET status='DEAD', cause_of_death='NO_WORK', when_died=CURRENT_TIMESTAMP"
            " WHERE worker_id=:worker_id"
        )
        self._hive.write(lambda connection: connection.execute(statement, {"worker_id": self.worker_id}))

    def _count_running(self, connection: Connection, analysis_id: int, sign: str) -> None:
        if not self._hive.uses_triggers:
            change = f"UPDATE analysis_stats SET num_running_workers=num_running_workers{sign}1"
            connection.execute(text(f"{change} WHERE analysis_id=:analysis_id"), {"analysis_id": analysis_id})


def release_lost_jobs(hive: Hive) -> list[int]:
    """
    Set the jobs of this host's workers that have not recorded their end to READY, and return their ids.

    This is what eHive's garbage collector does after a crash. Another process on this host that works in the
    same hive would lose its jobs.
    """
    values = {"host": socket.gethostname()}
    lost = (
        "FROM job JOIN role USING (role_id) JOIN worker USING (worker_id) WHERE worker.meadow_host=:host"
        " AND worker.status<>'DEAD' AND job.status NOT IN ('SEMAPHORED','READY','DONE','FAILED','PASSED_ON')"
    )
    rows = hive.read(f"SELECT job_id, job.analysis_id {lost}", **values)
    changes = [
        *(
            f"UPDATE job SET status='READY', retry_count=retry_count+1 WHERE job_id={row.job_id}"
            for row in rows
        ),
        "UPDATE worker SET status='DEAD', cause_of_death='UNKNOWN', when_died=CURRENT_TIMESTAMP"
        " WHERE meadow_host=:host AND status<>'DEAD'",
        "UPDATE beekeeper SET cause_of_death='DISAPPEARED'"
        " WHERE meadow_host=:host AND cause_of_death IS NULL",
    ]
    for change in changes:
        hive.write(lambda connection: connection.execute(text(change), values))  # noqa: B023
    for analysis_id in {row.analysis_id for row in rows}:
        hive.synchronize(analysis_id)
    return [row.job_id for row in rows]


def _describe_host() -> dict[str, str]:
    return {"host": socket.gethostname(), "user": getpass.getuser(), "process": str(os.getpid())}
