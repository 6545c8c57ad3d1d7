"""
Read how jobs are, with everything that grew from them: statements on a connection.

Trees are read from the top, level by level, outside a long transaction. A job becomes DONE after its children
were inserted, so a parent that was read as DONE has no child that a later statement would miss: a tree is
never called complete too early. (A recursive query would be, silently, beyond 1,000 levels on MariaDB.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, inspect, select

from event_hooks.hive.tables import analysis_base, chunks, job, log_message, result, semaphore

# Lengths are bounded because a long text without spaces would take minutes otherwise.
_PASSWORD = re.compile(
    r"""(?P<url>://[^\s:/@"']{0,100}:)[^\s"'/]{1,200}(?P<at>@)|(?P<option>-pass(?:word)?[ =])[^\s"']{1,200}"""
)

MAX_ERROR = 4000
"""Characters of a failed job's message that travel on; the hive keeps all of it."""

MAX_RESULT = 65_535
"""Characters of a result that travel on: what eHive's TEXT column holds. A longer one is cut, and is text."""


class State(StrEnum):
    """What a job and its tree have come to. Only COMPLETE is success."""

    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    MISSING = "missing"


@dataclass
class JobTree:
    """A submitted job (the entry) and all that grew from it, as they were when read."""

    entry: int
    statuses: dict[int, str] = field(default_factory=dict)
    """``{job_id: job.status}``; empty if the entry's row is gone."""

    result_ids: list[int] = field(default_factory=list)
    """The jobs that a result may stand under: the entry, and what took over when eHive passed it on."""

    def state(self) -> State:
        """
        Give what the statuses come to.

        A job that is SEMAPHORED beside a FAILED one will never run; without one it still may.
        """
        statuses = set(self.statuses.values())
        if self.entry not in self.statuses:
            return State.MISSING
        if statuses - {"SEMAPHORED", "DONE", "FAILED", "PASSED_ON"}:
            return State.RUNNING
        if "FAILED" in statuses:
            return State.FAILED
        return State.RUNNING if "SEMAPHORED" in statuses else State.COMPLETE

    def failed(self) -> list[int]:
        """Give the FAILED jobs, oldest first."""
        return sorted(job_id for job_id, status in self.statuses.items() if status == "FAILED")


@dataclass(frozen=True)
class JobOutcome:
    """How a submitted job ended."""

    job_id: int
    state: State
    result: Any = None
    """What the pipeline wrote into ``result.output``: JSON, or text that is not JSON; None without a row."""

    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Give ``{"job_id", "state", "result", "error"}`` in types that JSON has."""
        return {"job_id": self.job_id, "state": self.state.value, "result": self.result, "error": self.error}


def read(connection: Connection, entries: Sequence[int]) -> dict[int, JobTree]:
    """
    Read the trees of these jobs.

    Costs, for each level of the deepest tree, one statement per 1,000 jobs of that level.

    :param connection: in autocommit mode, so that each statement sees what is committed by then.
    :return: ``{entry: tree}`` for each of the entries, also for those without a row.
    """
    trees = {entry: JobTree(entry, result_ids=[entry]) for entry in entries}
    own = {}
    owners: dict[int, set[int]] = {}
    for row in _rows(connection, job.c.job_id, list(trees)):
        trees[row.job_id].statuses[row.job_id] = row.status
        own[row.job_id] = row.controlled_semaphore_id
        owners[row.job_id] = {row.job_id}
    while owners:
        owners = _next_level(connection, trees, own, owners)
    return trees


def outcomes(connection: Connection, trees: Iterable[JobTree]) -> list[JobOutcome]:
    """
    Give the outcome of trees that are over.

    :raises ValueError: for a tree that still runs.
    """
    over = list(trees)
    results = _results(connection, [job_id for tree in over for job_id in tree.result_ids])
    errors = _errors(connection, [job_id for tree in over for job_id in tree.failed()])
    return [_outcome(tree, results, errors) for tree in over]


def _next_level(
    connection: Connection,
    trees: Mapping[int, JobTree],
    own: Mapping[int, int | None],
    owners: dict[int, set[int]],
) -> dict[int, set[int]]:
    """
    Add the children of some jobs to the trees that the jobs belong to.

    :param own: the semaphore that each entry itself controls; what it holds back is not the entry's doing.
    :param owners: ``{job: entries of the trees that have it}``.
    :return: the same for the children.
    """
    below: dict[int, set[int]] = {}
    elsewhere: dict[int, set[int]] = {}
    rows = _rows(connection, job.c.prev_job_id, list(owners))
    for row in rows:
        for entry in owners[row.prev_job_id]:
            tree = trees[entry]
            if row.prev_job_id in tree.result_ids and tree.statuses[row.prev_job_id] == "PASSED_ON":
                tree.result_ids.append(row.job_id)
            _add(tree, row, below)
    # On stock tables an equal funnel of another tree is used instead of a second one: its parent is there.
    for row in rows:
        if (funnel := row.dependent_job_id) is None:
            continue
        holding = {entry for entry in owners[row.prev_job_id] if own[entry] != row.controlled_semaphore_id}
        if unseen := {entry for entry in holding if funnel not in trees[entry].statuses}:
            elsewhere.setdefault(funnel, set()).update(unseen)
    for row in _rows(connection, job.c.job_id, list(elsewhere)):
        for entry in elsewhere[row.job_id]:
            _add(trees[entry], row, below)
    return below


def _add(tree: JobTree, row: Row[Any], level: dict[int, set[int]]) -> None:
    if row.job_id not in tree.statuses:
        tree.statuses[row.job_id] = row.status
        level.setdefault(row.job_id, set()).add(tree.entry)


def _rows(connection: Connection, key: ColumnElement[Any], values: Sequence[int]) -> list[Row[Any]]:
    """Give the jobs with one of these values, each with the job that its semaphore holds back."""
    columns = (job.c.job_id, job.c.prev_job_id, job.c.status, job.c.controlled_semaphore_id)
    controlled = job.outerjoin(semaphore, semaphore.c.semaphore_id == job.c.controlled_semaphore_id)
    wanted = select(*columns, semaphore.c.dependent_job_id).select_from(controlled)
    found: list[Row[Any]] = []
    for some in chunks(values):
        found.extend(connection.execute(wanted.where(key.in_(some))))
    return found


def _results(connection: Connection, job_ids: Sequence[int]) -> dict[int, Any]:
    if not job_ids or not inspect(connection).has_table(result.name):
        return {}
    wanted = select(result.c.job_id, result.c.output)
    rows = (
        row for some in chunks(job_ids) for row in connection.execute(wanted.where(result.c.job_id.in_(some)))
    )
    return {row.job_id: _json_or_text(row.output) for row in rows}


def _errors(connection: Connection, job_ids: Sequence[int]) -> dict[int, str]:
    """Give the last WORKER_ERROR of each job: other rows are chatter, or tell of earlier attempts."""
    errors = {}
    for some in chunks(job_ids):
        last = (
            select(func.max(log_message.c.log_message_id))
            .where(log_message.c.job_id.in_(some), log_message.c.message_class == "WORKER_ERROR")
            .group_by(log_message.c.job_id)
        )
        rows = (
            select(job.c.job_id, analysis_base.c.logic_name, log_message.c.msg)
            .join(analysis_base, analysis_base.c.analysis_id == job.c.analysis_id)
            .outerjoin(
                log_message,
                (log_message.c.job_id == job.c.job_id)
                & log_message.c.log_message_id.in_(last.scalar_subquery()),
            )
            .where(job.c.job_id.in_(some))
        )
        for row in connection.execute(rows):
            message = _masked((row.msg or "the hive has no message of it")[: 2 * MAX_ERROR]).strip()[
                :MAX_ERROR
            ]
            errors[row.job_id] = f"job {row.job_id} ({row.logic_name}) failed: {message}"
    return errors


def _outcome(tree: JobTree, results: Mapping[int, Any], errors: Mapping[int, str]) -> JobOutcome:
    found = next((results[job_id] for job_id in reversed(tree.result_ids) if job_id in results), None)
    match tree.state():
        case State.COMPLETE:
            return JobOutcome(tree.entry, State.COMPLETE, found)
        case State.FAILED:
            first, *others = tree.failed()
            more = (
                f"\nand {len(others)} more of its jobs failed: {', '.join(map(str, others[:20]))}"
                if others
                else ""
            )
            gone = f"job {first} failed, and its row is gone since"
            return JobOutcome(tree.entry, State.FAILED, found, errors.get(first, gone) + more)
        case State.MISSING:
            gone = f"job {tree.entry} is no longer in the hive (deleted or hoovered): how it ended is unknown"
            return JobOutcome(tree.entry, State.MISSING, found, gone)
        case running:
            raise ValueError(f"job {tree.entry} is {running}")


def _json_or_text(output: str | None) -> Any:
    try:
        return _masked(json.loads((output or "")[:MAX_RESULT]))
    except (ValueError, RecursionError):
        return None if output is None else _masked(output[:MAX_RESULT])


def _masked(value: Any) -> Any:
    """Hide the passwords of addresses: eHive's own messages name the database with its password."""
    match value:
        case str():
            return _PASSWORD.sub(r"\g<url>\g<option>***\g<at>", value)
        case list():
            return [_masked(item) for item in value]
        case dict():
            return {key: _masked(item) for key, item in value.items()}
        case _:
            return value
