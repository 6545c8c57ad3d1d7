"""A beekeeper and its workers in one process: they do the jobs of a practice hive as eHive would."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy.exc import DBAPIError

from tests.support.practice_hive import jobs
from tests.support.practice_hive.attempt import Attempt
from tests.support.practice_hive.hive import Hive
from tests.support.practice_hive.perl import Perl
from tests.support.practice_hive.staff import Beekeeper, Member

log = logging.getLogger(__name__)


class Worked(NamedTuple):
    """One attempt at a job, and how it ended: DONE, PASSED_ON, FAILED, or READY to be tried again."""

    job_id: int
    analysis: str
    status: str


class Worker:
    """
    Does the jobs that ``analysis_stats`` tells of.

    Either for good (``run``), or in the test's own thread: ``work_until_idle``, or job by job ``work_one``.
    From the first job on there is a ``beekeeper`` row without cause_of_death, until ``close`` or the end of a
    ``with`` block.

    :param threads: how many jobs ``run`` does side by side.
    :param patience: seconds to wait for a database that is away.
    """

    def __init__(
        self, url: str, *, threads: int = 4, poll_interval: float = 0.1, patience: float = 60
    ) -> None:
        self._stop = threading.Event()
        self._hive = Hive(url, patience=patience, stop=self._stop)
        self._perl = Perl()
        self._threads = threads
        self._poll_interval = poll_interval
        self._members = threading.local()
        self._beekeeper: Beekeeper | None = None

    def __enter__(self) -> Worker:
        """Open for work."""
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def run(self, stop: threading.Event) -> None:
        """Work in several threads until ``stop`` is set; a job then in RUN goes back to READY."""
        self._stop = self._hive.stop = stop
        with self:
            threads = [threading.Thread(target=self._work) for _ in range(self._threads)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def work_until_idle(self) -> list[Worked]:
        """Do jobs until nothing is found; give what was done, in order."""
        return list(iter(self.work_one, None))

    def work_one(self) -> Worked | None:
        """Do exactly one job, or give None where there is nothing to do."""
        for analysis in self._hive.analyses_with_work():
            role_id = self._member.role_for(analysis.analysis_id)
            if job := jobs.claim(self._hive, analysis, role_id):
                status = Attempt(self._hive, self._perl, job, self._stop).make()
                self._member.note_attempt(done=status == "DONE")
                log.info("Job %s of %s: %s", job.job_id, analysis.logic_name, status)
                return Worked(job.job_id, analysis.logic_name, status)
        self._member.leave_role()
        return None

    def close(self) -> None:
        """End this thread's worker and the beekeeper; the rows stay."""
        # A hive that is away is not told, as it is not when a beekeeper is killed.
        with suppress(DBAPIError):
            self._end_member()
            if self._beekeeper:
                self._beekeeper.end()
        self._beekeeper = None
        self._perl.close()
        self._hive.engine.dispose()

    def _begin(self) -> Beekeeper:
        self._beekeeper = self._beekeeper or Beekeeper(self._hive)
        return self._beekeeper

    @property
    def _member(self) -> Member:
        if not hasattr(self._members, "one"):
            self._members.one = Member(self._hive, self._begin().beekeeper_id)
        member: Member = self._members.one
        return member

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                worked = self.work_one()
            except DBAPIError as error:
                log.warning("Lost a job: %s", error.orig)
                worked = None
            if worked is None:
                self._stop.wait(self._poll_interval)
        with suppress(DBAPIError):
            self._end_member()

    def _end_member(self) -> None:
        if hasattr(self._members, "one"):
            self._members.one.end()
            del self._members.one
