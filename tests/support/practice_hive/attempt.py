"""One attempt at one job, phase by phase, in eHive's order."""

from __future__ import annotations

import re
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from tests.support.practice_hive import jobs, stages
from tests.support.practice_hive.perl import Perl, PerlError
from tests.support.practice_hive.scenario import Scenario
from tests.support.practice_hive.tables import STAGES

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from tests.support.practice_hive.hive import Hive
    from tests.support.practice_hive.jobs import Job
    from tests.support.practice_hive.scenario import Stage

OVERFLOW = re.compile(r"^_ext(?:\w+)_data_id (\d+)$")
PHASES = ("PRE_CLEANUP", "FETCH_INPUT", "RUN", "WRITE_OUTPUT", "POST_CLEANUP")
STACK = """{message} at /practice/{module}.pm line 42.

STACK Practice::{module}::run /practice/{module}.pm:42
STACK Bio::EnsEMBL::Hive::Process::life_cycle Process.pm:192
STACK Bio::EnsEMBL::Hive::Worker::run_one_batch Worker.pm:797
"""


class JobDied(Exception):
    """The job's own code failed."""


class Interrupted(Exception):
    """The worker was stopped while the job was running."""


class Attempt:
    """
    One attempt at a job that this worker has claimed.

    :param stop: interrupts the attempt in RUN; the job is then released like that of a killed worker.
    """

    def __init__(self, hive: Hive, perl: Perl, job: Job, stop: threading.Event) -> None:
        self.hive = hive
        self.perl = perl
        self.job = job
        self.stop = stop
        self.parameters: dict[str, Any] = {}
        self._actions: dict[str, Callable[[], None]] = {
            "RUN": self._run,
            "WRITE_OUTPUT": lambda: stages.WRITERS[self.suffix](self),
            "POST_CLEANUP": lambda: self._fail_if_planned("dataflow") if self._is_entry else None,
        }

    @cached_property
    def suffix(self) -> str:
        """The part of the analysis' name after that of its entry analysis."""
        name = self.job.analysis.logic_name
        return next((suffix for suffix in STAGES if suffix and name.endswith(suffix)), "")

    @property
    def entry_analysis(self) -> str:
        """The analysis of the tree's root job."""
        return self.job.analysis.logic_name.removesuffix(self.suffix)

    def _read_input(self) -> None:
        text: str | None = self.job.input_id
        if overflow := OVERFLOW.match(self.job.input_id):
            text = self.hive.fetch_overflow(int(overflow[1]))
        parameters = self.perl.read("{}" if text is None else text)
        if not isinstance(parameters, dict):
            raise PerlError(f"input_id is expected to evaluate to a hashref, not to {parameters!r}")
        self.parameters = parameters

    @property
    def event(self) -> Any:
        """The event in the job's parameters."""
        return self.parameters.get("event")

    @property
    def genome(self) -> Any:
        """The event's genome, or None."""
        return self.event.get("genome") if isinstance(self.event, dict) else None

    @property
    def _is_entry(self) -> bool:
        return self.suffix in ("", "_again")

    @property
    def init_job_id(self) -> int:
        """The job to which the result belongs: the entry job, or the job that replaced it."""
        return int(self.parameters.get("init_job_id", self.job.job_id))

    @cached_property
    def scenario(self) -> Scenario:
        """The planned behaviour of the job."""
        return Scenario.from_event(self.event, self.entry_analysis)

    def run(self) -> str:
        """Do the job once, and return the status in which it ends."""
        started, statements = time.monotonic(), self.hive.statements
        try:
            self._read_input()
        except PerlError as error:
            self.hive.log_message(self.job.job_id, f"{error}\n", "WORKER_ERROR")
            return jobs.release(self.hive, self.job, can_retry=False, runtime_msec=None)
        try:
            if self._is_passed_on():
                return "PASSED_ON"
            self._run_phases()
        except Interrupted:
            message = "GarbageCollector: The worker died because of KILLED_BY_USER"
            self.hive.log_message(self.job.job_id, message, "WORKER_ERROR")
            return jobs.release(self.hive, self.job, can_retry=True, runtime_msec=None)
        except (JobDied, ValueError, DBAPIError) as error:
            return self._fail(error, _milliseconds_since(started))
        jobs.finish(self.hive, self.job, _milliseconds_since(started), self.hive.statements - statements)
        return "DONE"

    def _run_phases(self) -> None:
        for phase in PHASES:
            jobs.enter_phase(self.hive, self.job, phase)
            if action := self._actions.get(phase):
                action()

    def add_progress(self, message: str) -> None:
        """Add a line to the progress of the entry job, in hives with a table for it."""
        if "job_progress" in self.hive.tables:
            # The column is latin1 and cannot store a genome with a Greek name.
            ascii_message = message.encode("ascii", "backslashreplace").decode()
            stages.insert(self.hive, "job_progress", job_id=self.init_job_id, message=ascii_message)

    def _run(self) -> None:
        if self.scenario.seconds and self.stop.wait(self.scenario.seconds):
            raise Interrupted
        self._fail_if_planned(stages.STAGE_NAMES[self.suffix])

    def _fail_if_planned(self, stage: Stage) -> None:
        errors = self.hive.read(
            "SELECT COUNT(*) FROM log_message WHERE job_id=:job_id AND message_class='WORKER_ERROR'",
            job_id=self.job.job_id,
        )
        # One failed child is sufficient to hold back a funnel.
        if self.parameters.get("part", 1) == 1 and self.scenario.fails(
            stage,
            attempts=self.job.retry_count,
            errors=errors[0][0],
            max_attempts=self.job.max_retry_count + 1,
        ):
            raise JobDied(self.scenario.message)

    def _is_passed_on(self) -> bool:
        """Pass the job on if the scenario says so, and return whether it was passed on."""
        passed_on = self.parameters.get("passed_on", 0)
        if not self._is_entry or passed_on >= self.scenario.pass_on:
            return False
        for phase in PHASES[:3]:
            jobs.enter_phase(self.hive, self.job, phase)
        self.stop.wait(self.scenario.seconds)
        stages.store_replacement(self, passed_on + 1)
        message = "GarbageCollector: The worker died because of MEMLIMIT, performing gc_dataflow"
        jobs.pass_on(self.hive, self.job)
        self.hive.log_message(self.job.job_id, message, "INFO")
        return True

    def _fail(self, error: Exception, runtime_msec: int) -> str:
        cause = error.orig if isinstance(error, DBAPIError) else error
        module = f"Practice{self.suffix.title().replace('_', '')}"
        self.hive.log_message(self.job.job_id, STACK.format(message=cause, module=module), "WORKER_ERROR")
        for message in ("Cleaning up the temporary folder of the job", "0 of 0 files were removed"):
            self.hive.log_message(self.job.job_id, message, "INFO", "POST_CLEANUP")
        return jobs.release(self.hive, self.job, can_retry=True, runtime_msec=runtime_msec)


def _milliseconds_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
