"""
Find the reason why jobs are stalled, and the command that resolves it.

Either the hive's own tables prove a stall, or its reason names the observation. Sources for the meaning of
the tables: eHive 2.5 to 2.8 (``Queue``, ``Scheduler``, ``Queen``), tested on these versions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from more_itertools import sliced
from sqlalchemy import Connection, Row, Select, case, func, select

from event_hooks.hive.sql.beekeepers import build_advice, describe_absence, is_working, load_beekeeper
from event_hooks.hive.sql.job_trees import DONE_STATUSES, NOT_RUNNING_STATUSES, JobTree
from event_hooks.hive.sql.tables import (
    CHUNK_ROWS,
    analysis_base,
    analysis_stats,
    beekeeper,
    is_in,
    job,
    role,
    semaphore,
    worker,
)

SILENCE_SECONDS = 300.0
"""Seconds since the last sign of a worker after which it may be dead, if no beekeeper supervises it."""


@dataclass(frozen=True)
class Stall:
    """Jobs of one analysis that are stalled for the same reason."""

    kind: str
    """One of: excluded, blocked, no_beekeeper, not_picked_up, semaphore, worker_lost."""

    analysis: str
    reason: str
    advice: str
    """The command to run."""

    stalled_jobs: Mapping[int, Collection[int]]
    """``{submitted job: stalled jobs of its tree}``."""

    @property
    def root_ids(self) -> tuple[int, ...]:
        """The submitted jobs, sorted."""
        return tuple(sorted(self.stalled_jobs))

    @property
    def job_ids(self) -> tuple[int, ...]:
        """The stalled jobs, sorted."""
        return tuple(sorted({job_id for job_ids in self.stalled_jobs.values() for job_id in job_ids}))

    @property
    def key(self) -> str:
        """Identifier of the stall among those of one wait."""
        return f"{self.kind}: {self.analysis}"

    def for_roots(self, root_ids: frozenset[int]) -> Stall | None:
        """Return this stall for some submitted jobs only; ``None`` if it does not concern any of them."""
        concerned_ids = self.stalled_jobs.keys() & root_ids  # iterates over the smaller one
        stalled_jobs = {root_id: self.stalled_jobs[root_id] for root_id in sorted(concerned_ids)}
        return replace(self, stalled_jobs=stalled_jobs) if stalled_jobs else None

    def __str__(self) -> str:
        """Return jobs, reason and advice in one line."""
        job_ids = self.job_ids
        many = f"{len(job_ids)} jobs of {self.analysis}, the first is {job_ids[0]}"
        jobs = f"job {job_ids[0]} of {self.analysis}" if len(job_ids) == 1 else many
        return f"{jobs}: {self.reason}. To do: {self.advice}"


class StallCandidate(NamedTuple):
    """A tree that has not changed for some time."""

    tree: JobTree
    unchanged_seconds: float
    """Seconds since the last change."""

    ready_timeout: float
    """Seconds after which a job that is still READY is stalled, and a worker without a sign may be dead."""


def find_stalls(
    connection: Connection,
    candidates: Sequence[StallCandidate],
    analysis_ids: Mapping[int, int],
    tables: Collection[str],
    url: str,
) -> list[Stall]:
    """
    Return the stalls of trees that have not changed for some time.

    Runs at most two statements, and two more for each 1,000 jobs.

    :param analysis_ids: ``{job_id: analysis_id}`` of all jobs of the trees.
    :param tables: names of the hive's tables; hives before eHive 2.5 have no ``beekeeper``.
    :param url: a placeholder for the hive's URL, for the commands.
    """
    ready = _map_jobs(candidates, "READY")
    semaphored = _map_jobs(filter(_has_only_semaphored, candidates), "SEMAPHORED")
    running = {
        job_id: candidate
        for candidate in candidates
        for job_id, status in candidate.tree.statuses.items()
        if status not in NOT_RUNNING_STATUSES
    }
    involved_ids = {analysis_ids[job_id] for job_id in (*ready, *semaphored, *running)}
    if not involved_ids:
        return []
    analyses = {row.analysis_id: row for row in connection.execute(_select_analyses(involved_ids))}
    keeper = load_beekeeper(connection) if beekeeper.name in tables else None
    findings = [
        *_check_ready(ready, analysis_ids, analyses, keeper, url),
        *_check_running(connection, running, keeper, url),
        *_check_semaphored(connection, semaphored, url),
    ]
    return _group(findings, candidates, analysis_ids, analyses)


class _Finding(NamedTuple):
    """One stalled job, with the values of its :class:`Stall`."""

    job_id: int
    kind: str
    reason: str
    advice: str


def _map_jobs(candidates: Iterable[StallCandidate], status: str) -> dict[int, StallCandidate]:
    return {job_id: candidate for candidate in candidates for job_id in candidate.tree.find_by_status(status)}


def _has_only_semaphored(candidate: StallCandidate) -> bool:
    """Return whether all unfinished jobs of the tree are SEMAPHORED: no job of the tree releases them."""
    return set(candidate.tree.statuses.values()) <= {"SEMAPHORED", *DONE_STATUSES}


def _select_analyses(analysis_ids: Iterable[int]) -> Select[Any]:
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


def _check_ready(
    ready: Mapping[int, StallCandidate],
    analysis_ids: Mapping[int, int],
    analyses: Mapping[int, Row[Any]],
    keeper: Row[Any] | None,
    url: str,
) -> Iterator[_Finding]:
    for job_id, candidate in ready.items():
        analysis = analyses[analysis_ids[job_id]]
        is_late = candidate.unchanged_seconds > candidate.ready_timeout
        if stall := _explain_ready(analysis, keeper, url, is_late=is_late):
            yield _Finding(job_id, *stall)


def _explain_ready(
    analysis: Row[Any], keeper: Row[Any] | None, url: str, *, is_late: bool
) -> tuple[str, str, str] | None:
    """Return (kind, reason, advice) for a READY job; ``None`` if it is not stalled."""
    if analysis.is_excluded:
        include = f"tweak_pipeline.pl -url {url} -SET 'analysis[{analysis.logic_name}].is_excluded=0'"
        reason = "READY, and its analysis is excluded: more than two workers died before any job started"
        return "excluded", reason, f"fix the analysis, then run {include}"
    if analysis.status == "BLOCKED" and is_late:
        reason = "READY, and its analysis is BLOCKED: it waits for other analyses, or a user blocked it"
        advice = f"beekeeper.pl -url {url} -sync, then check which analyses it waits for"
        return "blocked", reason, advice
    advice = build_advice(keeper, url)
    if not is_working(keeper):
        return "no_beekeeper", f"READY, and {describe_absence(keeper)}", advice
    if is_late:
        reason = (
            f"READY for longer than its timeout, although beekeeper {keeper.beekeeper_id} on"
            f" {keeper.meadow_host} (process {keeper.process_id}) has not recorded its end"
        )
        return "not_picked_up", reason, f"check whether it is alive; if not, {advice}"
    return None


def _check_running(
    connection: Connection, running: Mapping[int, StallCandidate], keeper: Row[Any] | None, url: str
) -> Iterator[_Finding]:
    for chunk in sliced(list(running), CHUNK_ROWS):
        for row in connection.execute(_select_workers(chunk)):
            if stall := _explain_running(row, running[row.job_id].ready_timeout, keeper, url):
                yield _Finding(row.job_id, "worker_lost", *stall)


def _select_workers(job_ids: Sequence[int]) -> Select[Any]:
    columns = (
        job.c.job_id,
        job.c.status,
        role.c.when_finished,
        worker.c.status.label("worker_status"),
        *(worker.c[name] for name in ("worker_id", "meadow_host", "process_id", "cause_of_death")),
        *(worker.c[name] for name in ("when_born", "when_checked_in", "when_seen")),
        func.current_timestamp().label("now"),
    )
    jobs_with_roles = job.outerjoin(role, role.c.role_id == job.c.role_id)
    return (
        select(*columns)
        .select_from(jobs_with_roles.outerjoin(worker, worker.c.worker_id == role.c.worker_id))
        .where(is_in(job.c.job_id, job_ids), job.c.status.not_in(sorted(NOT_RUNNING_STATUSES)))
    )


def _explain_running(
    row: Row[Any], timeout: float, keeper: Row[Any] | None, url: str
) -> tuple[str, str] | None:
    """Return (reason, advice) for a job in a status like RUN; ``None`` if its worker may be alive."""
    dead = f"beekeeper.pl -url {url} -dead"
    if row.worker_id is None:
        return f"in {row.status}, and no worker has it", dead
    description = f"worker {row.worker_id} on {row.meadow_host} (process {row.process_id})"
    if row.cause_of_death or row.worker_status == "DEAD" or row.when_finished:
        cause = row.cause_of_death or "it left its role"
        return f"in {row.status}, and its {description} is gone: {cause}", dead
    seconds, advice = _seconds_since_sign(row), f"check whether it is alive; if not, {dead}"
    if seconds > SILENCE_SECONDS and not is_working(keeper):
        absence = describe_absence(keeper)
        return (
            f"in {row.status}, and {absence}, so the end of its {description} would not be detected",
            advice,
        )
    if seconds > timeout:
        return f"in {row.status}, and its {description} has not been seen for {seconds:.0f} s", advice
    return None


def _seconds_since_sign(row: Row[Any]) -> float:
    """Return the seconds since a worker checked in, or since the beekeeper saw it in its meadow."""
    times = [time for time in (row.when_born, row.when_checked_in, row.when_seen) if time]
    return float((row.now - max(times)).total_seconds()) if times else float("inf")


def _check_semaphored(
    connection: Connection, semaphored: Mapping[int, StallCandidate], url: str
) -> Iterator[_Finding]:
    """Check the semaphores of trees in which all other jobs have finished."""
    found_ids: set[int] = set()
    for chunk in sliced(list(semaphored), CHUNK_ROWS):
        for row in connection.execute(_select_semaphores(chunk)):
            found_ids.add(row.job_id)
            if stall := _explain_semaphored(row, url):
                yield _Finding(row.job_id, "semaphore", *stall)
    for job_id in semaphored.keys() - found_ids:
        reason = "SEMAPHORED, and no semaphore holds it back, so no job will release it"
        yield _Finding(job_id, "semaphore", reason, f"beekeeper.pl -url {url} -reset_job_id {job_id}")


def _select_semaphores(job_ids: Sequence[int]) -> Select[Any]:
    fan = job.alias("fan")
    holds, has_failed = fan.c.status.not_in(sorted(DONE_STATUSES)), fan.c.status == "FAILED"
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


def _explain_semaphored(row: Row[Any], url: str) -> tuple[str, str] | None:
    """Return (reason, advice) for a job behind a semaphore; ``None`` if it may still be released."""
    holding, failed = int(row.holding or 0), int(row.failed or 0)
    if row.remote_jobs_counter:
        return None
    if not holding:
        reason = (
            f"SEMAPHORED, and the jobs that held it back have finished (counter {row.local_jobs_counter})"
        )
        return reason, f"beekeeper.pl -url {url} -balance_semaphores"
    if holding == failed:
        reason = f"SEMAPHORED behind {failed} FAILED jobs of another tree, the first is {row.first_failed}"
        return reason, f"beekeeper.pl -url {url} -reset_job_id {row.first_failed}"
    return None


def _group(
    findings: Iterable[_Finding],
    candidates: Sequence[StallCandidate],
    analysis_ids: Mapping[int, int],
    analyses: Mapping[int, Row[Any]],
) -> list[Stall]:
    """
    Build one stall for all jobs of a kind and an analysis; reason and advice are those of the first job.

    A stalled funnel job that several trees use is reported for all of them.
    """
    groups: dict[tuple[str, int], list[_Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.kind, analysis_ids[finding.job_id]), []).append(finding)
    return [
        Stall(
            kind,
            analyses[analysis_id].logic_name,
            group[0].reason,
            group[0].advice,
            _map_stalled_jobs({finding.job_id for finding in group}, candidates),
        )
        for (kind, analysis_id), group in groups.items()
    ]


def _map_stalled_jobs(job_ids: set[int], candidates: Iterable[StallCandidate]) -> dict[int, set[int]]:
    trees = (candidate.tree for candidate in candidates)
    return {tree.root_id: stalled for tree in trees if (stalled := job_ids.intersection(tree.statuses))}
