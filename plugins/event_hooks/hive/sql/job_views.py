"""Views of jobs for the API: status, progress, output and error messages of submitted jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, inspect

from event_hooks.hive import perl
from event_hooks.hive.sql.inputs import select_inputs
from event_hooks.hive.sql.job_trees import (
    DONE_STATUSES,
    NOT_RUNNING_STATUSES,
    NOT_STARTED_STATUSES,
    JobForest,
    JobState,
    JobTree,
)
from event_hooks.hive.sql.log_notes import load_failure_messages
from event_hooks.hive.sql.outcomes import (
    JobOutcome,
    load_progress_messages,
    refresh_outcomes,
)
from event_hooks.hive.sql.tables import job, job_progress
from event_hooks.masking import mask_secrets, mask_text, replace_surrogates

MAX_SHOWN_FAILURES = 100
"""Failed jobs of one tree whose messages are loaded."""

MAX_LISTED_CHARS = 2000
"""Characters of an input and of an output in a list of jobs; longer ones are truncated texts."""


@dataclass(frozen=True)
class JobView:
    """A submitted job with its tree. Source of the status words: the Ensembl event app."""

    job_id: int
    input: Any
    """
    A dict; the text itself, if it is truncated, or not Perl that :mod:`event_hooks.hive.perl` can parse.
    """

    status: str
    """complete, failed, submitted, running, or incomplete (started, but no worker runs any of its jobs)."""

    when_completed: datetime | None
    """Of the submitted job itself; in UTC."""

    output: Any
    done: int
    total: int
    message: str | None
    """The newest message in the hive's table ``job_progress``."""

    failures: dict[int, str]
    """
    ``{failed job of the tree: message}``; any other error is stored under the id of the submitted job. Empty
    in a list.
    """


@dataclass(frozen=True)
class _TreeDetails:
    """Data about all trees of one call."""

    outcomes: Mapping[int, JobOutcome]
    """``{root id: outcome}`` of finished trees."""

    messages: Mapping[int, str]
    """``{root id: progress message}``."""

    errors: Mapping[int, str]
    """``{failed job: message}``."""


def load_job_views(
    connection: Connection, analysis_id: int, job_id: int | None, before: int | None, limit: int
) -> list[JobView]:
    """
    Load jobs of an analysis with their trees, the newest first.

    A list has truncated inputs and outputs, and no failures: a thousand jobs may have a gigabyte of them.

    :param connection: in autocommit mode, so that each statement sees the rows committed before it.
    :param job_id: return only this job, completely.
    :param before: return only jobs with a lower id.
    :param limit: maximum number of jobs.
    """
    rows = _load_jobs(connection, analysis_id, job_id, before, limit)
    if not rows:
        return []
    tables = set(inspect(connection).get_table_names())
    forest = JobForest(is_full_read=True)
    is_list = job_id is None
    max_chars = MAX_LISTED_CHARS if is_list else None
    root_ids = [row.job_id for row in rows]
    finished = refresh_outcomes(connection, forest, root_ids, tables, max_result_chars=max_chars).outcomes
    trees = [forest.trees[row.job_id] for row in rows]
    details = _load_details(connection, trees, finished, tables, has_failures=not is_list)
    return [_build_view(row, tree, details) for row, tree in zip(rows, trees, strict=True)]


def _load_jobs(
    connection: Connection, analysis_id: int, job_id: int | None, before: int | None, limit: int
) -> Sequence[Any]:
    if job_id is not None:
        statement = select_inputs().where(job.c.job_id == job_id)
    else:
        statement = select_inputs(MAX_LISTED_CHARS)
    statement = statement.add_columns(job.c.when_completed).where(job.c.analysis_id == analysis_id)
    if before is not None:
        statement = statement.where(job.c.job_id < before)
    return connection.execute(statement.order_by(job.c.job_id.desc()).limit(limit)).all()


def _load_details(
    connection: Connection,
    trees: Sequence[JobTree],
    finished: Sequence[JobOutcome],
    tables: Collection[str],
    *,
    has_failures: bool,
) -> _TreeDetails:
    failed_ids = [
        job_id
        for tree in (trees if has_failures else ())
        for job_id in sorted(tree.find_by_status("FAILED"))[:MAX_SHOWN_FAILURES]
    ]
    return _TreeDetails(
        {outcome.job_id: outcome for outcome in finished},
        load_progress_messages(connection, trees) if job_progress.name in tables else {},
        load_failure_messages(connection, failed_ids),
    )


def _build_view(row: Any, tree: JobTree, details: _TreeDetails) -> JobView:
    outcome = details.outcomes.get(row.job_id)
    failures = {job_id: details.errors[job_id] for job_id in tree.statuses if job_id in details.errors}
    if outcome and outcome.error and not failures:
        failures = {row.job_id: outcome.error}  # the job was stopped, or jobs of its tree were deleted
    return JobView(
        row.job_id,
        _parse_input(row.input),
        _find_status(tree, outcome),
        row.when_completed,
        mask_secrets(outcome.result) if outcome else None,
        tree.count_by_status(*DONE_STATUSES),
        len(tree.statuses),
        details.messages.get(row.job_id),
        failures,
    )


def _parse_input(text: str) -> Any:
    """Parse an input, and mask its secrets; one that is truncated is no complete hash, and remains text."""
    try:
        job_input = perl.loads(text)
    except ValueError:
        return mask_text(text)
    masked = mask_secrets(job_input)
    if isinstance(masked, dict) and "event_hooks" in masked:
        # The token below this key identifies the job, and is no secret.
        masked["event_hooks"] = replace_surrogates(job_input["event_hooks"])
    return masked


def _find_status(tree: JobTree, outcome: JobOutcome | None) -> str:
    if outcome:
        return "complete" if outcome.state is JobState.COMPLETE else "failed"
    statuses = set(tree.statuses.values())
    if not statuses <= NOT_RUNNING_STATUSES:
        return "running"
    return "submitted" if statuses <= NOT_STARTED_STATUSES else "incomplete"
