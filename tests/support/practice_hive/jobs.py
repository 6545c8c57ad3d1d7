"""The changes of a job in the database: stored, claimed, phase by phase, finished."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

if TYPE_CHECKING:
    from tests.support.practice_hive.hive import Analysis, Hive

MAX_INPUT_ID_CHARACTERS = 255
"""eHive stores longer texts in ``analysis_data`` instead of ``job.input_id``."""


class Job(NamedTuple):
    """A job that a worker has claimed."""

    job_id: int
    input_id: str
    retry_count: int
    controlled_semaphore_id: int | None
    max_retry_count: int
    analysis: Analysis


def claim(hive: Hive, analysis: Analysis, role_id: int) -> Job | None:
    """Claim one READY job; None if there is none, or other workers have claimed them."""
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
            hive, job.job_id, "status='CLAIMED', role_id=:role_id", expected_status="READY", role_id=role_id
        ):
            hive.synchronize(analysis.analysis_id)
            return job
    return None


def enter_phase(hive: Hive, job: Job, phase: str) -> None:
    """Record the current phase of the job."""
    _update(hive, job.job_id, "status=:phase", phase=phase)


def finish(hive: Hive, job: Job, runtime_msec: int, query_count: int) -> None:
    """Record that a job is DONE, and then release the jobs that wait for it."""
    change = "status='DONE', when_completed=CURRENT_TIMESTAMP, runtime_msec=:msec, query_count=:queries"
    _update(hive, job.job_id, change, msec=runtime_msec, queries=query_count)
    hive.synchronize(job.analysis.analysis_id)
    decrement_semaphore(hive, job.controlled_semaphore_id)


def pass_on(hive: Hive, job: Job) -> None:
    """Record that another job has replaced this one."""
    _update(hive, job.job_id, "status='PASSED_ON', when_completed=CURRENT_TIMESTAMP")
    hive.synchronize(job.analysis.analysis_id)
    decrement_semaphore(hive, job.controlled_semaphore_id)


def release(hive: Hive, job: Job, *, can_retry: bool, runtime_msec: int | None) -> str:
    """Count a failed attempt, set the job to READY or finally to FAILED, and return the status."""
    status = "READY" if can_retry and job.retry_count < job.max_retry_count else "FAILED"
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
) -> int | None:
    """
    Store and count a job that another one creates by dataflow.

    :return: its ``job_id``; None for a duplicate by the unique key of stock tables, which eHive only logs.
    """
    analysis_id = hive.analysis_ids[logic_name]
    input_id = _store_overflow(hive, input_id)
    statement = text(
        "INSERT INTO job (prev_job_id, analysis_id, input_id, status, controlled_semaphore_id)"
        " VALUES (:prev_job_id, :analysis_id, :input_id, :status, :semaphore_id)"
    )
    values = {"prev_job_id": prev_job_id, "analysis_id": analysis_id, "input_id": input_id, "status": status}

    def insert(connection: Connection) -> int:
        job_id = connection.execute(statement, {**values, "semaphore_id": semaphore_id}).lastrowid
        hive.count_new_job(connection, analysis_id, status)
        return int(job_id)

    try:
        job_id = hive.write(insert)
    except IntegrityError as error:
        if not any(message in str(error.orig) for message in ("Duplicate entry", "UNIQUE constraint")):
            raise
        _log_collision(hive, prev_job_id, analysis_id, input_id)
        return None
    if hive.uses_triggers:
        # Triggers do not change the status of a DONE analysis; eHive's beekeeper does in its next resync.
        hive.synchronize(analysis_id)
    return job_id


def _store_overflow(hive: Hive, input_id: str) -> str:
    if len(input_id) <= MAX_INPUT_ID_CHARACTERS:
        return input_id
    return f"_extended_data_id {hive.store_overflow(input_id)}"


def _log_collision(hive: Hive, emitting_job_id: int, analysis_id: int, input_id: str) -> None:
    duplicate = f"Attempt to insert a duplicate job (analysis_id={analysis_id}, input_id={input_id})"
    hive.log_message(emitting_job_id, f"{duplicate} intercepted and ignored", "INFO")
    lost = f"JobAdaptor failed to store the local Job( analysis_id={analysis_id}, {input_id} )"
    hive.log_message(emitting_job_id, f"{lost}, possibly due to a collision", "PIPELINE_CAUTION")


def join_funnel(hive: Hive, emitting_job_id: int, logic_name: str, input_id: str, count: int) -> int:
    """
    Have ``count`` more jobs hold back a funnel of another entry job, and return its semaphore.

    :raises ValueError: the funnel was released already; this ends eHive's worker as well.
    """
    (funnel,) = hive.read(
        "SELECT job_id, semaphore_id FROM job LEFT JOIN semaphore ON dependent_job_id=job_id"
        " WHERE analysis_id=:analysis_id AND input_id=:input_id",
        analysis_id=hive.analysis_ids[logic_name],
        input_id=_store_overflow(hive, input_id),
    )
    if not _update(hive, funnel.job_id, "retry_count=retry_count+0", expected_status="SEMAPHORED"):
        raise ValueError(f"The funnel job (id={funnel.job_id}) was not in SEMAPHORED status")
    for _ in range(count):
        increment_semaphore(hive, funnel.semaphore_id)
    message = f"Discovered and using an existing funnel Job dbID={funnel.job_id} analysis={logic_name}"
    hive.log_message(emitting_job_id, message, "INFO")
    return int(funnel.semaphore_id)


def create_semaphore(hive: Hive, dependent_job_id: int, count: int) -> int:
    """Create the semaphore that holds a funnel back until ``count`` jobs are done; return its id."""
    statement = text("INSERT INTO semaphore (local_jobs_counter, dependent_job_id) VALUES (:count, :job_id)")
    values = {"count": count, "job_id": dependent_job_id}
    return int(hive.write(lambda connection: connection.execute(statement, values).lastrowid))


def increment_semaphore(hive: Hive, semaphore_id: int | None) -> None:
    """Count one more job that controls a semaphore; call it before that job is stored."""
    if semaphore_id is not None:
        statement = text(
            "UPDATE semaphore SET local_jobs_counter=local_jobs_counter+1 WHERE semaphore_id=:id"
        )
        hive.write(lambda connection: connection.execute(statement, {"id": semaphore_id}))


def decrement_semaphore(hive: Hive, semaphore_id: int | None) -> None:
    """Count one job less that controls a semaphore; after the last one, release the job that waits for it."""
    if semaphore_id is None:
        return
    statement = text("UPDATE semaphore SET local_jobs_counter=local_jobs_counter-1 WHERE semaphore_id=:id")
    hive.write(lambda connection: connection.execute(statement, {"id": semaphore_id}))
    _release_dependent_job(hive, semaphore_id)


def balance_semaphores(hive: Hive) -> bool:
    """
    Correct the counters of semaphores, as ``beekeeper.pl -balance_semaphores`` does.

    A worker that is killed between two statements leaves them wrong. Call it while no job is READY or runs.

    :return: whether any was wrong.
    """
    rows = hive.read(
        "SELECT semaphore_id, COUNT(controlling.job_id) AS expected FROM semaphore"
        " JOIN job AS dependent ON dependent.job_id=dependent_job_id AND dependent.status='SEMAPHORED'"
        " LEFT JOIN job AS controlling ON controlling.controlled_semaphore_id=semaphore_id"
        " AND controlling.status NOT IN ('DONE','PASSED_ON')"
        " GROUP BY semaphore_id, local_jobs_counter HAVING COUNT(controlling.job_id)<>local_jobs_counter"
    )
    statement = text("UPDATE semaphore SET local_jobs_counter=:expected WHERE semaphore_id=:semaphore_id")
    for row in rows:
        hive.write(lambda connection: connection.execute(statement, row._asdict()))  # noqa: B023
        _release_dependent_job(hive, row.semaphore_id)
    return bool(rows)


def _release_dependent_job(hive: Hive, semaphore_id: int) -> None:
    """Set the job that waits for a semaphore to READY if no job controls the semaphore any more."""
    released = hive.read(
        "SELECT job_id, analysis_id FROM semaphore JOIN job ON job_id=dependent_job_id"
        " WHERE semaphore_id=:id AND local_jobs_counter + remote_jobs_counter <= 0",
        id=semaphore_id,
    )
    for funnel in released:
        _update(hive, funnel.job_id, "status='READY'", expected_status="SEMAPHORED")
        hive.synchronize(funnel.analysis_id)


def _update(
    hive: Hive, job_id: int, change: str, *, expected_status: str | None = None, **values: object
) -> bool:
    condition = "job_id=:job_id" + (f" AND status='{expected_status}'" if expected_status else "")
    statement = text(f"UPDATE job SET {change} WHERE {condition}")
    return (
        hive.write(lambda connection: connection.execute(statement, {"job_id": job_id, **values}).rowcount)
        == 1
    )
