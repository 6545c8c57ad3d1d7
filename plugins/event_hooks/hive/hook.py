"""Speak to one hive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from airflow.sdk import BaseHook
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy import Connection as DatabaseConnection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.pool import NullPool
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from event_hooks.exceptions import HiveRejected, HiveUnreachable
from event_hooks.hive.connection import resolve_hive
from event_hooks.hive.sql import control, diagnosis, job_views, submission

T = TypeVar("T")

REJECTION_CODES = (1044, 1045, 1049, 1142, 1143, 1146, 1227, 1290, 1836)
"""MySQL's errors that the same statement will meet again: no right, no such database or table, read-only."""


MAX_LOGGED_JOBS = 20
"""Job ids in one line of a log."""


class HiveHook(BaseHook):
    """
    Speak to one hive, over a connection that is opened for each call and closed after it.

    :param hive_conn_id: as :func:`event_hooks.hive.connection.resolve_hive` takes it.
    :param place: what ``resolve_hive_async`` gave, inside a trigger, which must not block.
    :param keeps: whether connections are kept for the next call, as long as the address is the same, and
        looked at before they are used again. :meth:`close` ends it.
    """

    conn_name_attr = "hive_conn_id"
    default_conn_name = "hive_event_handling"
    hook_name = "eHive"

    def __init__(
        self,
        hive_conn_id: str = default_conn_name,
        place: tuple[URL, dict[str, Any]] | None = None,
        *,
        keeps: bool = False,
    ) -> None:
        super().__init__()
        self.hive_conn_id = hive_conn_id
        self.place = place
        self.keeps = keeps
        self._kept: dict[str, tuple[object, Engine]] = {}

    def close(self) -> None:
        """Close connections that were kept."""
        for _, engine in self._kept.values():
            engine.dispose()
        self._kept.clear()

    def submit(self, analysis: str, inputs: Sequence[str]) -> list[int]:
        """
        Give each input its job, all in one transaction; the same input again gives the same job.

        :param analysis: ``analysis_base.logic_name``.
        :param inputs: Perl hashes of :mod:`event_hooks.hive.perl`, all different.
        :return: ``job.job_id`` of each input, in the inputs' order.
        :raises HiveRejected: a retry cannot help; nothing was written.
        :raises HiveUnreachable: a retry may help, and is harmless.
        """
        job_ids = self.submit_all({analysis: inputs})[analysis]
        self.log.info("Jobs of %s in %s: %s", analysis, self.hive_conn_id, format_job_ids(job_ids))
        return job_ids

    def submit_all(self, inputs: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
        """Submit to several analyses in one transaction: ``{analysis: inputs}`` gives ``{analysis: ids}``."""

        def submit(connection: DatabaseConnection) -> dict[str, list[int]]:
            return {  # in one order, so that two transactions do not lock each other
                analysis: submission.submit(connection, self.hive_conn_id, analysis, inputs[analysis])
                for analysis in sorted(inputs)
            }

        return self._ask(submit, "READ COMMITTED")

    def view(
        self, analysis: str, job_id: int | None = None, *, before: int | None = None, limit: int = 1
    ) -> list[job_views.JobView]:
        """
        Show jobs of an analysis, the newest first.

        :param job_id: only this one; nothing if it is of another analysis.
        :param before: only jobs with a lower id.
        """

        def look(connection: DatabaseConnection) -> list[job_views.JobView]:
            analysis_id = submission.find_analysis(connection, self.hive_conn_id, analysis)
            return job_views.look(connection, analysis_id, job_id, before, limit)

        return self._ask(look, "AUTOCOMMIT")

    def check(self, analysis: str) -> None:
        """
        Ask whether jobs of an analysis could be submitted; writes nothing.

        :raises HiveRejected: they could not.
        :raises HiveUnreachable: nobody answered.
        """
        self._ask(
            lambda connection: submission.find_analysis(connection, self.hive_conn_id, analysis), "AUTOCOMMIT"
        )

    def beekeeper(self) -> tuple[bool | None, str]:
        """Tell whether its beekeeper is alive, as :func:`event_hooks.hive.sql.diagnosis.load_beekeeper_status`."""
        return self._ask(diagnosis.load_beekeeper_status, "AUTOCOMMIT")

    def find(self, analysis: str, inputs: Sequence[str]) -> dict[str, list[int]]:
        """Give the jobs that hold one of these inputs, ``{input: job ids}``; errors as of :meth:`check`."""

        def question(connection: DatabaseConnection) -> dict[str, list[int]]:
            analysis_id = submission.find_analysis(connection, self.hive_conn_id, analysis)
            return submission.find(connection, analysis_id, inputs)

        return self._ask(question, "AUTOCOMMIT")

    def reset(self, job_ids: Sequence[int]) -> control.Change:
        """
        Let what failed, or was stopped, of these jobs and their trees run again, all in one transaction.

        :raises HiveRejected: a retry cannot help; nothing was written.
        :raises HiveUnreachable: a retry may help, and is harmless.
        """
        return self._ask(lambda connection: control.reset(connection, job_ids), "READ COMMITTED")

    def stop(self, job_ids: Sequence[int]) -> control.Change:
        """Stop what has not begun of these jobs and their trees; errors as of :meth:`reset`."""
        return self._ask(lambda connection: control.stop(connection, job_ids), "READ COMMITTED")

    def _ask(self, question: Callable[[DatabaseConnection], T], isolation: str) -> T:
        attempts = Retrying(
            retry=retry_if_exception_type(_Passing),
            stop=stop_after_attempt(5),
            wait=wait_random_exponential(max=5),
            reraise=True,
        )
        for attempt in attempts:
            with attempt, translate_errors(self.hive_conn_id), self._engine(isolation).begin() as connection:
                return question(connection)
        raise RuntimeError("unreachable: the last attempt returns or raises")

    def _engine(self, isolation: str) -> Engine:
        place = url, options = self.place or resolve_hive(self.hive_conn_id)
        known_place, known = self._kept.get(isolation, (None, None))
        if known and known_place == place:
            return known
        self.close()
        name = isolation
        if url.get_backend_name() == "sqlite" and isolation != "AUTOCOMMIT":
            isolation = "SERIALIZABLE"
        pool = {"pool_pre_ping": True} if self.keeps else {"poolclass": NullPool}
        engine = create_engine(
            url, isolation_level=isolation, connect_args=options, hide_parameters=True, **pool
        )
        if self.keeps:
            self._kept[name] = (place, engine)
        return engine


@contextmanager
def translate_errors(hive: str) -> Iterator[None]:
    """Turn a driver's errors into ours, which name the hive and tell whether a retry can help."""
    try:
        yield
    except (DataError, IntegrityError) as error:
        raise HiveRejected(hive, str(error.orig)) from error
    except (DBAPIError, TimeoutError, OSError) as error:
        code = (
            error.orig.args[0] if isinstance(error, DBAPIError) and error.orig and error.orig.args else None
        )
        reason = str(error.orig if isinstance(error, DBAPIError) else error) or type(error).__name__
        if code in REJECTION_CODES or isinstance(error, ProgrammingError) or "no such table" in reason:
            raise HiveRejected(hive, reason) from error
        if code in (1205, 1213) or "database is locked" in reason:
            raise _Passing(hive, reason) from error
        raise HiveUnreachable(hive, reason) from error


class _Passing(HiveUnreachable):
    """Another transaction was in the way: the same again, in a moment, succeeds."""


def format_job_ids(job_ids: Sequence[int]) -> str:
    """Name jobs for a log line: all of a few, the first of many."""
    if not job_ids:
        return "no job"
    shown = ", ".join(map(str, job_ids[:MAX_LOGGED_JOBS]))
    word = "job" if len(job_ids) == 1 else f"{len(job_ids)} jobs:"
    return f"{word} {shown}" + (", …" if len(job_ids) > MAX_LOGGED_JOBS else "")
