"""
Why jobs do not get on, and what to type.

Each trouble is certain from the hive's own tables, or says what was looked at. Sources of what they mean:
eHive 2.5 to 2.8 (``Queue``, ``Scheduler``, ``Queen``), tried on these versions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, case, func, inspect, select

from event_hooks.hive.sql.job_trees import FINISHED, NOT_RUNNING, JobTree
from event_hooks.hive.sql.tables import (
    analysis_base,
    analysis_stats,
    beekeeper,
    chunks,
    is_in,
    job,
    role,
    semaphore,
    worker,
)

SILENCE_SECONDS = 300.0
"""Seconds without a sign of a worker after which it may be gone, where no beekeeper looks after it."""


@dataclass(frozen=True)
class Stall:
    """Jobs of one analysis that do not get on, all for the same reason."""

    kind: str
    """One of: excluded, blocked, no_beekeeper, not_picked_up, semaphore, worker_lost."""

    analysis: str
    reason: str
    advice: str
    """The command to type."""

    stalled_jobs: Mapping[int, Collection[int]]
    """``{submitted job: jobs of its tree that do not get on}``."""

    @property
    def entries(self) -> tuple[int, ...]:
        """The submitted jobs."""
        return tuple(sorted(self.stalled_jobs))

    @property
    def jobs(self) -> tuple[int, ...]:
        """The jobs that do not get on."""
        return tuple(sorted({job_id for jobs in self.stalled_jobs.values() for job_id in jobs}))

    @property
    def key(self) -> str:
        """Tell this trouble from others of the same wait."""
        return f"{self.kind}: {self.analysis}"

    def of(self, entries: Collection[int]) -> Stall | None:
        """Give this trouble of some submitted jobs alone."""
        stalled_jobs = {entry: jobs for entry, jobs in self.stalled_jobs.items() if entry in entries}
        return replace(self, stalled_jobs=stalled_jobs) if stalled_jobs else None

    def __str__(self) -> str:
        """Say all of it in one line."""
        jobs = self.jobs
        count = f"{len(jobs)} jobs of {self.analysis}, the first is {jobs[0]}"
        whose = f"job {jobs[0]} of {self.analysis}" if len(jobs) == 1 else count
        return f"{whose}: {self.reason}. To do: {self.advice}"


@dataclass(frozen=True)
class StallCandidate:
    """A tree in which nothing has changed for some time."""

    tree: JobTree
    seconds: float
    """For how long."""

    limit: float
    """Seconds after which a job of it that is READY should have been picked up."""


def find(
    connection: Connection,
    suspects: Sequence[StallCandidate],
    analyses: Mapping[int, int],
    tables: Collection[str],
    url: str,
) -> list[Stall]:
    """
    Give what holds up trees that have not changed for some time.

    Costs at most two statements, and two more for each 1,000 jobs.

    :param analyses: ``{job_id: analysis_id}``.
    :param tables: the names of the hive's tables; hives before eHive 2.5 have no ``beekeeper``.
    :param url: the hive's address without its password, for the commands.
    """
    ready = _jobs(suspects, {"READY"})
    stuck = [
        suspect for suspect in suspects if set(suspect.tree.statuses.values()) <= {"SEMAPHORED", *FINISHED}
    ]
    semaphored = _jobs(stuck, {"SEMAPHORED"})
    working = {
        job_id: suspect
        for suspect in suspects
        for job_id, status in suspect.tree.statuses.items()
        if status not in NOT_RUNNING
    }
    concerned = {analyses[job_id] for job_id in (*ready, *semaphored, *working)}
    if not concerned:
        return []
    stats = {row.analysis_id: row for row in connection.execute(_stats(concerned))}
    keeper = _beekeeper(connection) if beekeeper.name in tables else None
    findings = [
        *_of_ready(ready, analyses, stats, keeper, url),
        *_of_working(connection, working, keeper, url),
        *_of_semaphored(connection, semaphored, url),
    ]
    names = {analysis_id: row.logic_name for analysis_id, row in stats.items()}
    return _grouped(findings, suspects, analyses, names)


def load_beekeeper_status(connection: Connection) -> tuple[bool | None, str]:
    """
    Tell whether a hive's beekeeper is alive, as far as the hive knows, and which one it is.

    :return: None where the hive is from before eHive 2.5, and keeps no record of it.
    """
    if not inspect(connection).has_table(beekeeper.name):
        return None, "this hive keeps no record of its beekeeper"
    keeper = _beekeeper(connection)
    if keeper is None or keeper.cause_of_death is not None:
        return False, _absence(keeper)
    return True, f"beekeeper {keeper.beekeeper_id} on {keeper.meadow_host} has not said that it ended"


_Finding = tuple[int, str, str, str]
"""``(job_id, kind, reason, advice)``."""


def _jobs(suspects: Iterable[StallCandidate], statuses: Collection[str]) -> dict[int, StallCandidate]:
    return {job_id: suspect for suspect in suspects for job_id in suspect.tree.with_status(*statuses)}


def _stats(analysis_ids: Iterable[int]) -> Any:
    return (
        select(
            analysis_base.c.analysis_id,
            analysis_base.c.logic_name,
            analysis_stats.c.status,
            analysis_stats.c.is_excluded,
        )
        .join(analysis_stats, analysis_stats.c.analysis_id == analysis_base.c.analysis_id)
        .where(is_in(analysis_base.c.analysis_id, analysis_ids))
    )


def _beekeeper(connection: Connection) -> Row[Any] | None:
    """Give the beekeeper that has not said that it ended, else the newest: there is no other sign of life."""
    is_alive = case((beekeeper.c.cause_of_death.is_(None), 1), else_=0)
    rows = select(beekeeper).order_by(is_alive.desc(), beekeeper.c.beekeeper_id.desc()).limit(1)
    return connection.execute(rows).first()


def _of_ready(
    ready: Mapping[int, StallCandidate],
    analyses: Mapping[int, int],
    stats: Mapping[int, Row[Any]],
    keeper: Row[Any] | None,
    url: str,
) -> Iterator[_Finding]:
    loop = f"beekeeper.pl -url {url} -loop_until FOREVER"
    for job_id, suspect in ready.items():
        analysis = stats[analyses[job_id]]
        if analysis.is_excluded:
            include = f"tweak_pipeline.pl -url {url} -SET 'analysis[{analysis.logic_name}].is_excluded=0'"
            reason = (
                "READY, and its analysis is excluded: more than two workers died of it before any job began"
            )
            yield job_id, "excluded", reason, f"mend the analysis, then {include}"
        elif analysis.status == "BLOCKED" and suspect.seconds > suspect.limit:
            reason = "READY, and its analysis is BLOCKED: it waits for other analyses, or a person blocked it"
            yield job_id, "blocked", reason, f"beekeeper.pl -url {url} -sync, then look what it waits for"
        elif keeper is None or keeper.cause_of_death is not None:
            yield job_id, "no_beekeeper", f"READY, and {_absence(keeper)}", loop
        elif suspect.seconds > suspect.limit:
            reason = (
                f"READY for longer than its limit, though beekeeper {keeper.beekeeper_id} on"
                f" {keeper.meadow_host} (process {keeper.process_id}) has not said that it ended"
            )
            yield job_id, "not_picked_up", reason, f"see whether it lives; if not, {loop}"


def _absence(keeper: Row[Any] | None) -> str:
    if keeper is None:
        return "no beekeeper has ever worked on this hive"
    last = f"{keeper.beekeeper_id} on {keeper.meadow_host}, ended with {keeper.cause_of_death}"
    return f"no beekeeper is alive (the last, {last})"


def _of_working(
    connection: Connection, working: Mapping[int, StallCandidate], keeper: Row[Any] | None, url: str
) -> Iterator[_Finding]:
    dead = f"beekeeper.pl -url {url} -dead"
    for some in chunks(list(working)):
        for row in connection.execute(_workers(some)):
            place = f"worker {row.worker_id} on {row.meadow_host} (process {row.process_id})"
            if row.worker_id is None:
                yield row.job_id, "worker_lost", f"in {row.status}, and no worker has it", dead
            elif row.cause_of_death or row.worker_status == "DEAD" or row.when_finished:
                reason = (
                    f"in {row.status}, and its {place} is gone: {row.cause_of_death or 'it left its role'}"
                )
                yield row.job_id, "worker_lost", reason, dead
            elif _silence(row) > SILENCE_SECONDS and (keeper is None or keeper.cause_of_death is not None):
                reason = (
                    f"in {row.status}, and {_absence(keeper)}, so nobody would notice the end of its {place}"
                )
                yield row.job_id, "worker_lost", reason, f"see whether it lives; if not, {dead}"
            elif _silence(row) > working[row.job_id].limit:
                reason = f"in {row.status}, and its {place} has given no sign for {_silence(row):.0f} s"
                yield row.job_id, "worker_lost", reason, f"see whether it lives; if not, {dead}"


def _workers(job_ids: Sequence[int]) -> Any:
    columns = (
        job.c.job_id,
        job.c.status,
        role.c.when_finished,
        worker.c.status.label("worker_status"),
        *(worker.c[name] for name in ("worker_id", "meadow_host", "process_id", "cause_of_death")),
        *(worker.c[name] for name in ("when_born", "when_checked_in", "when_seen")),
        func.current_timestamp().label("now"),
    )
    whose = job.outerjoin(role, role.c.role_id == job.c.role_id)
    return (
        select(*columns)
        .select_from(whose.outerjoin(worker, worker.c.worker_id == role.c.worker_id))
        .where(is_in(job.c.job_id, job_ids), job.c.status.not_in(sorted(NOT_RUNNING)))
    )


def _silence(row: Row[Any]) -> float:
    """Give the seconds since a worker checked in, or since the beekeeper saw it in its meadow."""
    signs = [sign for sign in (row.when_born, row.when_checked_in, row.when_seen) if sign]
    return float((row.now - max(signs)).total_seconds()) if signs else float("inf")


def _of_semaphored(
    connection: Connection, semaphored: Mapping[int, StallCandidate], url: str
) -> Iterator[_Finding]:
    """Look at semaphores alone: in these trees all else is over."""
    found: set[int] = set()
    for some in chunks(list(semaphored)):
        for row in connection.execute(_semaphores(some)):
            found.add(row.job_id)
            holding, failed = int(row.holding or 0), int(row.failed or 0)
            if row.remote_jobs_counter:
                continue
            if not holding:
                reason = (
                    f"SEMAPHORED, and the jobs that held it back are over (counter {row.local_jobs_counter})"
                )
                yield row.job_id, "semaphore", reason, f"beekeeper.pl -url {url} -balance_semaphores"
            elif holding == failed:
                reason = f"SEMAPHORED behind {failed} FAILED jobs of another tree, as job {row.first_failed}"
                yield (
                    row.job_id,
                    "semaphore",
                    reason,
                    f"beekeeper.pl -url {url} -reset_job_id {row.first_failed}",
                )
    for job_id in semaphored.keys() - found:
        reason = "SEMAPHORED, and no semaphore holds it back, so none will release it"
        yield job_id, "semaphore", reason, f"beekeeper.pl -url {url} -reset_job_id {job_id}"


def _semaphores(job_ids: Sequence[int]) -> Any:
    fan = job.alias("fan")
    holds, has_failed = fan.c.status.not_in(sorted(FINISHED)), fan.c.status == "FAILED"
    counters = (semaphore.c.local_jobs_counter, semaphore.c.remote_jobs_counter)
    return (
        select(
            semaphore.c.dependent_job_id.label("job_id"),
            *counters,
            func.sum(case((holds, 1), else_=0)).label("holding"),
            func.sum(case((has_failed, 1), else_=0)).label("failed"),
            func.min(case((has_failed, fan.c.job_id))).label("first_failed"),
        )
        .select_from(semaphore.outerjoin(fan, fan.c.controlled_semaphore_id == semaphore.c.semaphore_id))
        .where(is_in(semaphore.c.dependent_job_id, job_ids))
        .group_by(semaphore.c.semaphore_id, semaphore.c.dependent_job_id, *counters)
    )


def _grouped(
    findings: Iterable[_Finding],
    suspects: Sequence[StallCandidate],
    analyses: Mapping[int, int],
    names: Mapping[int, str],
) -> list[Stall]:
    """
    Make one trouble of what is the same for many jobs: each names its first job's reason.

    A funnel that several trees use holds up all of them.
    """
    groups: dict[tuple[str, int], list[_Finding]] = {}
    for finding in findings:
        groups.setdefault((finding[1], analyses[finding[0]]), []).append(finding)
    stalls = []
    for (kind, analysis_id), group in groups.items():
        _, _, reason, advice = group[0]
        jobs = {job_id for job_id, *_ in group}
        trees = (suspect.tree for suspect in suspects)
        stalled_jobs = {tree.entry: found for tree in trees if (found := jobs.intersection(tree.statuses))}
        stalls.append(Stall(kind, names[analysis_id], reason, advice, stalled_jobs))
    return stalls
