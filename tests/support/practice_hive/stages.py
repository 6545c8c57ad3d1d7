"""The output of each stage: fan and funnel of the entry job, piece of a part, result of the funnel."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from tests.support.practice_hive import jobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.practice_hive.attempt import Attempt
    from tests.support.practice_hive.hive import Hive
    from tests.support.practice_hive.scenario import Stage

STAGE_NAMES: dict[str, Stage] = {
    "": "entry",
    "_again": "entry",
    "_part": "child",
    "_merge": "funnel",
    "_after": "after",
}


def insert(hive: Hive, table: str, **values: Any) -> None:
    """Insert a row into a table."""
    names = ", ".join(values)
    binds = ", ".join(f":{name}" for name in values)
    statement = text(f"INSERT INTO {table} ({names}) VALUES ({binds})")
    hive.write(lambda connection: connection.execute(statement, values))


def store_replacement(attempt: Attempt, count: int) -> None:
    """
    Store the job that replaces a passed-on job, with the same input.

    :param count: number of jobs that were passed on so far, with this one.
    """
    semaphore_id = attempt.job.controlled_semaphore_id
    jobs.increment_semaphore(attempt.hive, semaphore_id)
    attempt.add_progress("Passed on")
    _flow(attempt, "_again", {**attempt.parameters, "passed_on": count}, semaphore_id=semaphore_id)


def _write_entry(attempt: Attempt) -> None:
    parts = attempt.scenario.parts
    attempt.add_progress(f"Found {parts} parts of {attempt.genome}")
    # Without the id of the entry job, the jobs of an equal event are duplicates.
    shared, own = {"event": attempt.event, "parts": parts}, {"init_job_id": attempt.job.job_id}
    fan = shared if attempt.scenario.shared else shared | own
    funnel = shared if attempt.scenario.shared == "all" else shared | own
    # In a semaphore that the entry job controls, the funnel replaces it.
    jobs.increment_semaphore(attempt.hive, attempt.job.controlled_semaphore_id)
    funnel_id = _flow(
        attempt,
        "_merge",
        funnel,
        semaphore_id=attempt.job.controlled_semaphore_id,
        status="SEMAPHORED" if parts else "READY",
    )
    if funnel_id is None:
        jobs.decrement_semaphore(attempt.hive, attempt.job.controlled_semaphore_id)
        analysis = attempt.entry_analysis + "_merge"
        semaphore_id = jobs.join_funnel(
            attempt.hive, attempt.job.job_id, analysis, attempt.perl.write(funnel), parts
        )
    elif parts:
        semaphore_id = jobs.create_semaphore(attempt.hive, funnel_id, parts)
    for part in range(1, parts + 1):
        if _flow(attempt, "_part", {**fan, "part": part}, semaphore_id=semaphore_id) is None:
            jobs.decrement_semaphore(attempt.hive, semaphore_id)


def _write_part(attempt: Attempt) -> None:
    part, parts = attempt.parameters["part"], attempt.parameters["parts"]
    insert(
        attempt.hive,
        "accu",
        sending_job_id=attempt.job.job_id,
        receiving_semaphore_id=attempt.job.controlled_semaphore_id,
        struct_name="pieces",
        key_signature="[]",
        value=attempt.perl.write(f"{attempt.genome}.part{part}"),
    )
    attempt.add_progress(f"Part {part} of {parts} is done")


def _write_funnel(attempt: Attempt) -> None:
    scenario = attempt.scenario
    if "result" in attempt.hive.tables and not scenario.no_result:
        output = json.dumps({"genome": attempt.genome, "pieces": _read_pieces(attempt)})
        insert(attempt.hive, "result", job_id=attempt.init_job_id, output=scenario.result or output)
        attempt.add_progress("The result is written")
    if scenario.after_funnel:
        semaphore_id = attempt.job.controlled_semaphore_id
        jobs.increment_semaphore(attempt.hive, semaphore_id)
        _flow(attempt, "_after", attempt.parameters, semaphore_id=semaphore_id)


def _read_pieces(attempt: Attempt) -> list[Any]:
    rows = attempt.hive.read(
        "SELECT value FROM accu JOIN semaphore ON semaphore_id=receiving_semaphore_id"
        " WHERE dependent_job_id=:job_id ORDER BY sending_job_id",
        job_id=attempt.job.job_id,
    )
    return [attempt.perl.read(value) for (value,) in rows]


def _flow(
    attempt: Attempt,
    suffix: str,
    parameters: dict[str, Any],
    *,
    semaphore_id: int | None,
    status: str = "READY",
) -> int | None:
    return jobs.store(
        attempt.hive,
        attempt.entry_analysis + suffix,
        attempt.perl.write(parameters),
        prev_job_id=attempt.job.job_id,
        status=status,
        semaphore_id=semaphore_id,
    )


WRITERS: dict[str, Callable[[Attempt], None]] = {
    "": _write_entry,
    "_again": _write_entry,
    "_part": _write_part,
    "_merge": _write_funnel,
    "_after": lambda attempt: attempt.add_progress("The clean-up is done"),
}
