"""The life of a job in the database: stored, claimed, taken through its phases, ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, text

if TYPE_CHECKING:
    from tests.support.practice_hive.hive import Analysis, Hive

# What eHive puts straight into job.input_id; longer texts go to analysis_data.
INPUT_ID_LENGTH = 255


class Job(NamedTuple):
    """A job that a worker has claimed."""

    job_id: int
    input_id: str
    retry_count: int
    controlled_semaphore_id: int | None
    max_retry_count: int
    analysis: Analysis


def claim(hive: Hive, analysis: Analysis, role_id: int) -> Job | None:
    """Claim one READY job, if no other worker is faster."""
    candidates = hive.read(
        "SELECT job_id, input_id, retry_count, controlled_semaphore_id, COALESCE(max_retry_count, 3)"
        " AS max_retry_count FROM job"
        " JOIN analysis_base USING (analysis_id) WHERE analysis_id=:analysis_id AND job.status='READY'"
        " ORDER BY retry_count, job_id LIMIT 20",
        analysis_id=analysis.analysis_id,
    )
    for row in candidates:
        job = Job(**row._mapping, analysis=analysis)
        if _update(
            hive, job.job_id, "status='CLAIMED', role_id=:role_id", only_from="READY", role_id=role_id
        ):
            hive.synchronize(analysis.analysis_id)
            return job
    return None


def enter(hive: Hive, job: Job, phase: str) -> None:
    """Record the phase that the job is in."""
    _update(hive, job.job_id, "status=:phase", phase=phase)


def finish(hive: Hive, job: Job, runtime_msec: int, query_count: int) -> None:
    """Record that a job is DONE, and only then release what waits for it."""
    change = "status='DONE', when_completed=CURRENT_TIMESTAMP, runtime_msec=:msec, query_count=:queries"
    _update(hive, job.job_id, change, msec=runtime_msec, queries=query_count)
    hive.synchronize(job.analysis.analysis_id)
    _lower_semaphore(hive, job.controlled_semaphore_id)


def pass_on(hive: Hive, job: Job) -> None:
    """Record that another job has taken over."""
    _update(hive, job.job_id, "status='PASSED_ON', when_completed=CURRENT_TIMESTAMP")
    hive.synchronize(job.analysis.analysis_id)
    _lower_semaphore(hive, job.controlled_semaphore_id)


def release(hive: Hive, job: Job, *, may_retry: bool, runtime_msec: int | None) -> str:
    """Give a job that died back, one attempt older, or fail it for good; answer with the new status."""
    status = "READY" if may_retry and job.retry_count < job.max_retry_count else "FAILED"
    change = "status=:status, retry_count=retry_count+1, runtime_msec=:runtime_msec"
    _update(hive, job.job_id, change, status=status, runtime_msec=runtime_msec)
    hive.synchronize(job.analysis.analysis_id)
    return status


def store(
    hive: Hive,
    logic_name: str,
    input_id: str,
    *,
    prev_job_id: int,
    status: str = "READY",
    semaphore_id: int | None,
) -> int:
    """Store a job that another one has flowed, counted and announced; give its ``job_id``."""
    analysis_id = hive.analysis_ids[logic_name]
    if len(input_id) > INPUT_ID_LENGTH:
        input_id = f"_extended_data_id {hive.store_overflow(input_id)}"
    statement = text(
        "INSERT INTO job (prev_job_id, analysis_id, input_id, status, controlled_semaphore_id)"
        " VALUES (:prev_job_id, :analysis_id, :input_id, :status, :semaphore_id)"
    )
    values = {"prev_job_id": prev_job_id, "analysis_id": analysis_id, "input_id": input_id, "status": status}

    def insert(connection: Connection) -> int:
        job_id = connection.execute(statement, {**values, "semaphore_id": semaphore_id}).lastrowid
        hive.announce(connection, analysis_id, status)
        return int(job_id)

    job_id = hive.write(insert)
    if hive.uses_triggers:
        # Triggers leave a DONE analysis DONE; eHive's beekeeper finds the job by its next resync.
        hive.synchronize(analysis_id)
    return job_id


def make_semaphore(hive: Hive, dependent_job_id: int, count: int) -> int:
    """Make the semaphore that holds a funnel back until ``count`` jobs are done."""
    statement = text("INSERT INTO semaphore (local_jobs_counter, dependent_job_id) VALUES (:count, :job_id)")
    values = {"count": count, "job_id": dependent_job_id}
    return int(hive.write(lambda connection: connection.execute(statement, values).lastrowid))


def raise_semaphore(hive: Hive, semaphore_id: int | None) -> None:
    """Count one more job that controls a semaphore; to be done before that job is stored."""
    if semaphore_id is not None:
        statement = text(
            "UPDATE semaphore SET local_jobs_counter=local_jobs_counter+1 WHERE semaphore_id=:id"
        )
        hive.write(lambda connection: connection.execute(statement, {"id": semaphore_id}))


def _lower_semaphore(hive: Hive, semaphore_id: int | None) -> None:
    if semaphore_id is None:
        return
    statement = text("UPDATE semaphore SET local_jobs_counter=local_jobs_counter-1 WHERE semaphore_id=:id")
    hive.write(lambda connection: connection.execute(statement, {"id": semaphore_id}))
    released = hive.read(
        "SELECT job_id, analysis_id FROM semaphore JOIN job ON job_id=dependent_job_id"
        " WHERE semaphore_id=:id AND local_jobs_counter + remote_jobs_counter <= 0",
        id=semaphore_id,
    )
    for funnel in released:
        _update(hive, funnel.job_id, "status='READY'", only_from="SEMAPHORED")
        hive.synchronize(funnel.analysis_id)


def _update(hive: Hive, job_id: int, change: str, *, only_from: str | None = None, **values: object) -> bool:
    condition = "job_id=:job_id" + (f" AND status='{only_from}'" if only_from else "")
    statement = text(f"UPDATE job SET {change} WHERE {condition}")
    return (
        hive.write(lambda connection: connection.execute(statement, {"job_id": job_id, **values}).rowcount)
        == 1
    )
