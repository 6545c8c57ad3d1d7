"""Hook for one hive: submit, find, list, reset and stop jobs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseHook
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from event_hooks.database_errors import find_code, is_lock_conflict, is_temporary, reject_long_packets
from event_hooks.database_url import EngineArgs, make_engine
from event_hooks.exceptions import EventHooksError, HiveRejected, HiveUnreachable, StopWithdrawn
from event_hooks.hive.connection import resolve_hive
from event_hooks.hive.sql import beekeepers, control, job_views, submission

if TYPE_CHECKING:
    from sqlalchemy import Connection as DatabaseConnection
    from sqlalchemy import Engine

T = TypeVar("T")

BINLOG_FORMAT_CODE = 1665
"""MySQL error code: with ``binlog_format=STATEMENT``, transactions with READ COMMITTED cannot write."""

PUBLIC_CODES = (1046, 1054, 1114, 1146, 1194, 1665, "SQLITE_ERROR")
"""Codes of errors with a reason that names databases, tables and columns, and no address or user."""

MAX_ATTEMPTS = 5
"""Attempts of a transaction that fails because another transaction holds a lock."""

MAX_RETRY_DELAY_SECONDS = 5
"""Upper bound of the random delay between two of these attempts."""

MAX_LOGGED_JOBS = 20
"""Jobs that one log line names, and that one poll logs in lines of their own."""


class HiveHook(BaseHook):
    """
    Run operations on the jobs of one hive, each in a transaction of its own.

    Each call opens a connection and closes it, unless ``keep_connections`` is set.

    :param hive_conn_id: an id that :func:`event_hooks.hive.connection.resolve_hive` accepts.
    :param engine_args: result of ``resolve_hive_async``, to pass in a trigger, which must not block.
    :param timeout: seconds for each operation: afterwards it starts no statement, and rolls back. Default: no
        limit for an operation, and the setting ``hive_timeout`` for each statement.
    :param keep_connections: keep the connection for the next call, as long as the hive's address stays the
        same; it is tested before it is used again. :meth:`close` closes it, and so does an error, because the
        next connection may lead to another server, as after a failover.
    """

    conn_name_attr = "hive_conn_id"
    default_conn_name = "hive_event_handling"
    hook_name = "eHive"

    def __init__(
        self,
        hive_conn_id: str = default_conn_name,
        engine_args: EngineArgs | None = None,
        *,
        timeout: float | None = None,
        keep_connections: bool = False,
    ) -> None:
        super().__init__()
        self.hive_conn_id = hive_conn_id
        self.engine_args = engine_args
        self.timeout = timeout
        self._deadline = math.inf
        self.keep_connections = keep_connections
        self._write_isolation = "READ COMMITTED"
        self._cached_engine: tuple[tuple[str, EngineArgs], Engine] | None = None

    def close(self) -> None:
        """Close the connection that ``keep_connections`` left open."""
        if self._cached_engine:
            self._cached_engine[1].dispose()
            self._cached_engine = None

    def submit(self, analysis: str, inputs: Sequence[str]) -> list[int]:
        """
        Create one job per input in one transaction; an input that has a job already keeps that job.

        :param analysis: ``analysis_base.logic_name``.
        :param inputs: Perl hashes as :func:`event_hooks.hive.perl.dumps` writes them, all different.
        :return: ``job.job_id`` of each input, in the order of the inputs.
        :raises HiveRejected: a retry helps after a failover or a fix; nothing was written.
        :raises HiveUnreachable: a retry may help; it is idempotent.
        """
        job_ids = self.submit_all({analysis: inputs})[analysis]
        self.log.info("Submitted to %s in %s: %s", analysis, self.hive_conn_id, format_job_ids(job_ids))
        return job_ids

    def submit_all(self, inputs: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
        """
        Submit to several analyses in one transaction; errors as in :meth:`submit`.

        :param inputs: ``{analysis: inputs}``, inputs as in :meth:`submit`.
        :return: ``{analysis: job ids}``.
        """

        def submit(connection: DatabaseConnection) -> dict[str, list[int]]:
            # All transactions lock the analyses in the same order, which avoids deadlocks between them.
            return {
                analysis: submission.submit_jobs(connection, self.hive_conn_id, analysis, inputs[analysis])
                for analysis in sorted(inputs)
            }

        return self._write(submit)

    def list_jobs(
        self, analysis: str, job_id: int | None = None, *, before: int | None = None, limit: int = 1
    ) -> list[job_views.JobView]:
        """
        Return jobs of an analysis with the state of their job trees, the newest first.

        :param job_id: return only this job; nothing if it belongs to another analysis.
        :param before: return only jobs with a lower id.
        :param limit: return at most this many jobs.
        :raises HiveRejected: the hive has no such analysis, or cannot be read.
        :raises HiveUnreachable: the hive did not answer in time.
        """

        def list_jobs(connection: DatabaseConnection) -> list[job_views.JobView]:
            analysis_id = submission.find_analysis(connection, self.hive_conn_id, analysis).analysis_id
            return job_views.load_job_views(connection, analysis_id, job_id, before, limit)

        return self._run(list_jobs, "AUTOCOMMIT")

    def check_analysis(self, analysis: str) -> None:
        """
        Check that jobs of an analysis can be submitted, without writing anything.

        :raises HiveRejected: the hive has no such analysis, or its schema is not supported.
        :raises HiveUnreachable: the hive did not answer in time.
        """
        self._run(
            lambda connection: submission.find_analysis(connection, self.hive_conn_id, analysis),
            "AUTOCOMMIT",
        )

    def load_beekeeper_status(self) -> beekeepers.BeekeeperStatus:
        """Return the result of :func:`event_hooks.hive.sql.beekeepers.load_beekeeper_status`."""
        return self._run(beekeepers.load_beekeeper_status, "AUTOCOMMIT")

    def find_jobs(self, analysis: str, inputs: Sequence[str]) -> dict[str, list[int]]:
        """
        Return the jobs of each input that has any: ``{input: job ids}``.

        :raises HiveRejected: as in :meth:`check_analysis`.
        :raises HiveUnreachable: as in :meth:`check_analysis`.
        """

        def find_jobs(connection: DatabaseConnection) -> dict[str, list[int]]:
            analysis_id = submission.find_analysis(connection, self.hive_conn_id, analysis).analysis_id
            return submission.find_jobs(connection, analysis_id, inputs)

        return self._run(find_jobs, "AUTOCOMMIT")

    def reset_jobs(self, jobs: Mapping[int, str | None]) -> control.ControlResult:
        """
        Set failed and stopped jobs in the trees of these jobs to READY or SEMAPHORED, in one transaction.

        :param jobs: ``{job_id: text that its input contains}``; jobs with another input are left alone, and
            jobs with ``None`` are not checked.
        :raises HiveRejected: a retry helps after a failover or a fix; nothing was written.
        :raises HiveUnreachable: a retry may help; it is idempotent.
        """
        return self._write(lambda connection: control.reset_jobs(connection, jobs))

    def stop_jobs(
        self, jobs: Mapping[int, str | None], is_wanted: Callable[[], bool] | None = None
    ) -> control.ControlResult:
        """
        Stop the jobs of these trees that have not started, in one transaction.

        :param jobs: as in :meth:`reset_jobs`.
        :param is_wanted: called before the commit, since the stop may have waited for locks.
        :raises StopWithdrawn: it is not wanted; nothing was written. Other errors as in :meth:`reset_jobs`.
        """

        def stop(connection: DatabaseConnection) -> control.ControlResult:
            result = control.stop_jobs(connection, jobs)
            if is_wanted and not is_wanted():
                raise StopWithdrawn(self.hive_conn_id)
            return result

        return self._write(stop)

    def _write(self, operation: Callable[[DatabaseConnection], T]) -> T:
        """
        Run an operation whose reads see the committed rows of others, and which writes.

        If the format of the hive's binary log excludes READ COMMITTED, the operation is repeated, from then
        on, with SERIALIZABLE: its reads take locks, and so see committed rows too.
        """
        try:
            return self._run(operation, self._write_isolation)
        except _IsolationRejected:
            self._write_isolation = "SERIALIZABLE"
            return self._run(operation, self._write_isolation)

    def _run(self, operation: Callable[[DatabaseConnection], T], isolation_level: str) -> T:
        """Run an operation in a transaction; retry it after lock errors."""
        retrying = Retrying(
            retry=retry_if_exception_type(_LockConflict),
            stop=stop_after_attempt(MAX_ATTEMPTS),
            wait=wait_random_exponential(max=MAX_RETRY_DELAY_SECONDS),
            reraise=True,
        )
        self._deadline = time.monotonic() + (self.timeout or math.inf)
        return retrying(lambda: self._run_once(operation, isolation_level))

    def _run_once(self, operation: Callable[[DatabaseConnection], T], isolation_level: str) -> T:
        try:
            with translate_errors(self.hive_conn_id), self._get_engine(isolation_level).begin() as connection:
                return operation(connection)
        except EventHooksError:
            self.close()
            raise

    def _get_engine(self, isolation_level: str) -> Engine:
        engine_args = self.engine_args or resolve_hive(self.hive_conn_id, self.timeout)
        key = (isolation_level, engine_args)
        if self._cached_engine and self._cached_engine[0] == key:
            return self._cached_engine[1]
        self.close()
        if engine_args[0].get_backend_name() == "sqlite" and isolation_level != "AUTOCOMMIT":
            isolation_level = "SERIALIZABLE"
        pool: dict[str, Any] = {"pool_pre_ping": True} if self.keep_connections else {"poolclass": NullPool}
        engine = make_engine(engine_args, isolation_level=isolation_level, **pool)
        event.listen(engine, "before_cursor_execute", self._check_deadline)
        reject_long_packets(engine)
        if self.keep_connections:
            self._cached_engine = (key, engine)
        return engine

    def _check_deadline(self, *_: object) -> None:
        """Start no statement after the timeout of the operation: its caller no longer waits for it."""
        if time.monotonic() > self._deadline:
            raise TimeoutError(f"no answer within {self.timeout:g} s")


@contextmanager
def translate_errors(hive: str) -> Iterator[None]:
    """
    Translate driver errors into errors of this project, which name the hive.

    :raises HiveRejected: a retry helps after a failover or a fix.
    :raises HiveUnreachable: a retry may help.
    """
    try:
        yield
    except (DBAPIError, TimeoutError, OSError) as error:
        raise _to_hive_error(hive, error) from error


def _to_hive_error(hive: str, error: Exception) -> HiveRejected | HiveUnreachable:
    cause = error.orig if isinstance(error, DBAPIError) else error
    reason, code = str(cause) or type(error).__name__, find_code(error)
    if is_lock_conflict(error):
        return _LockConflict(hive, reason)
    if is_temporary(error):
        return HiveUnreachable(hive, reason)
    error_class = _IsolationRejected if code == BINLOG_FORMAT_CODE else HiveRejected
    return error_class(hive, reason, reason if code in PUBLIC_CODES else f"error {code}")


class _IsolationRejected(HiveRejected):
    """The hive's binary log cannot record a transaction with READ COMMITTED."""


class _LockConflict(HiveUnreachable):
    """Another transaction holds a lock; an immediate retry can succeed."""


def format_job_ids(job_ids: Sequence[int]) -> str:
    """Format job ids for a log line: their number, and at most the first :data:`MAX_LOGGED_JOBS` ids."""
    if not job_ids:
        return "no job"
    ids = ", ".join(map(str, job_ids[:MAX_LOGGED_JOBS]))
    count = "job" if len(job_ids) == 1 else f"{len(job_ids)} jobs:"
    return f"{count} {ids}" + (", …" if len(job_ids) > MAX_LOGGED_JOBS else "")
