"""A beekeeper and its workers in one process, which do the jobs of a practice hive as eHive does."""

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
from tests.support.practice_hive.workers import BeekeeperRecord, WorkerRecord, release_lost_jobs

log = logging.getLogger(__name__)


class AttemptResult(NamedTuple):
    """An attempt at a job, with its last status: DONE, PASSED_ON, FAILED, or READY for a retry."""

    job_id: int
    analysis: str
    status: str


class Worker:
    """
    A worker for the jobs that ``analysis_stats`` counts.

    :meth:`run` works in threads until it is stopped; :meth:`run_until_idle` and :meth:`run_one_job` work in
    the thread of the caller. From the first job until ``close`` or the end of a ``with`` block, there is a
    ``beekeeper`` row without cause_of_death.

    :param threads: number of concurrent jobs of ``run``.
    :param poll_interval: seconds between two searches of ``run`` for jobs.
    :param retry_seconds: how long statements are retried while the database is unavailable.
    """

    def __init__(
        self, url: str, *, threads: int = 4, poll_interval: float = 0.1, retry_seconds: float = 60
    ) -> None:
        self._stop = threading.Event()
        self._hive = Hive(url, retry_seconds=retry_seconds, stop=self._stop)
        self._perl = Perl()
        self._threads = threads
        self._poll_interval = poll_interval
        self._records = threading.local()
        self._beekeeper: BeekeeperRecord | None = None
        self._may_be_unbalanced = False  # semaphores, if a worker was killed

    def __enter__(self) -> Worker:
        """Register the beekeeper."""
        self._register()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the worker."""
        self.close()

    def run(self, stop: threading.Event) -> None:
        """Work in several threads until ``stop`` is set; a job that is in RUN then returns to READY."""
        self._stop = self._hive.stop = stop
        with self:
            threads = [threading.Thread(target=self._work) for _ in range(self._threads)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def release_lost_jobs(self) -> None:
        """Have the jobs done again that workers of this host did when they were killed."""
        for job_id in release_lost_jobs(self._hive):
            log.info("Job %s: READY, its worker was killed", job_id)
        self._may_be_unbalanced = True

    def run_until_idle(self) -> list[AttemptResult]:
        """Do jobs until there are no more, and return the attempts in their order."""
        return list(iter(self.run_one_job, None))

    def run_one_job(self) -> AttemptResult | None:
        """Do one job and return the attempt; None if there is no job."""
        for analysis in self._hive.list_analyses_with_work():
            role_id = self._record.enter_role(analysis.analysis_id)
            if job := jobs.claim(self._hive, analysis, role_id):
                status = Attempt(self._hive, self._perl, job, self._stop).run()
                self._record.count_attempt(done=status == "DONE")
                log.info("Job %s of %s: %s", job.job_id, analysis.logic_name, status)
                return AttemptResult(job.job_id, analysis.logic_name, status)
        self._record.leave_role()
        if self._may_be_unbalanced and self._hive.is_idle():
            self._may_be_unbalanced = False
            if jobs.balance_semaphores(self._hive):
                log.info("Semaphores were balanced")
                return self.run_one_job()
        return None

    def close(self) -> None:
        """Record the end of this thread's worker and of the beekeeper; the rows remain."""
        # If the hive is unavailable, the rows show no end, as after the kill of a beekeeper.
        with suppress(DBAPIError):
            self._end_record()
            if self._beekeeper:
                self._beekeeper.end()
        self._beekeeper = None
        self._perl.close()
        self._hive.engine.dispose()

    def _register(self) -> BeekeeperRecord:
        self._beekeeper = self._beekeeper or BeekeeperRecord(self._hive)
        return self._beekeeper

    @property
    def _record(self) -> WorkerRecord:
        if not hasattr(self._records, "worker"):
            self._records.worker = WorkerRecord(self._hive, self._register().beekeeper_id)
        record: WorkerRecord = self._records.worker
        return record

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                attempt = self.run_one_job()
            except DBAPIError as error:
                log.warning("Lost a job: %s", error.orig)
                attempt = None
            if attempt is None:
                self._stop.wait(self._poll_interval)
        with suppress(DBAPIError):
            self._end_record()

    def _end_record(self) -> None:
        if hasattr(self._records, "worker"):
            self._records.worker.end()
            del self._records.worker
