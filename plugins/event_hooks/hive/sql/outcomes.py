"""Outcomes of finished job trees: results, error messages and warnings."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from more_itertools import sliced
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError

from event_hooks.database_errors import is_missing_column
from event_hooks.hive.sql.job_trees import DONE_STATUSES, MAX_IDS_PER_STATEMENT, JobForest, JobState, JobTree
from event_hooks.hive.sql.log_notes import MAX_MESSAGE_CHARS, LogNotes, load_notes
from event_hooks.hive.sql.results import ResultReader, StoredResult
from event_hooks.hive.sql.tables import is_in, job_progress, result
from event_hooks.masking import mask_text, replace_surrogates

MAX_LISTED_JOBS = 20
"""Job ids in one error message."""


@dataclass(frozen=True)
class JobOutcome:
    """Outcome of a submitted job and its tree."""

    job_id: int
    state: JobState
    result: Any = None
    """
    The pipeline's ``result.output``: parsed JSON, or text if it is not JSON; ``None`` without a row.

    It is not masked, because follow-up events contain parts of it: mask it where it is shown.
    """

    error: str | None = None
    warning: str | None = None
    """Why a success may be incomplete: jobs that eHive did not store, or a result that was not parsed."""

    counts: Sequence[int] | None = field(default=None, compare=False)
    """Numbers of jobs of the tree: done, total, failed."""

    def as_dict(self) -> dict[str, Any]:
        """Return ``{"job_id", "state", "result", "error"}`` in JSON types; warning and counts only if set."""
        values = {
            "job_id": self.job_id,
            "state": self.state.value,
            "result": self.result,
            "error": self.error,
        }
        optional = {"warning": self.warning, "counts": self.counts}
        return values | {name: value for name, value in optional.items() if value is not None}


class RefreshedTrees(NamedTuple):
    """What one read of trees found."""

    changed: set[JobTree]
    outcomes: list[JobOutcome]
    """Of finished trees."""

    is_partial: bool = False
    """Whether further trees are finished, and the next read returns their outcomes."""


def refresh_outcomes(
    connection: Connection,
    forest: JobForest,
    root_ids: Collection[int],
    tables: Collection[str],
    *,
    max_result_chars: int | None = None,
    max_bytes: float = math.inf,
) -> RefreshedTrees:
    """
    Read the changes of trees, and return the changed trees and the outcomes of the finished ones.

    Runs at most three statements more than :meth:`JobForest.refresh` for each 1,000 trees, and one for each
    16 MB of results.

    :param connection: in autocommit mode.
    :param tables: names of the hive's tables; ``result`` may be missing.
    :param max_result_chars: characters after which a result is truncated, and remains text; default: results
        are read whole, up to ``MAX_RESULT_BYTES``.
    :param max_bytes: bytes of results after which the remaining trees are left for the next call.
    """
    changed, finished, notes = _refresh(connection, forest, root_ids)
    if result.name not in tables:
        return RefreshedTrees(changed, [_build_counted_outcome(tree, {}, notes) for tree in finished])
    reader = ResultReader(connection, max_result_chars)
    job_ids = [job_id for tree in finished for job_id in tree.result_ids]
    stored, postponed = reader.load(job_ids, max_bytes)
    results = {job_id: _parse_output(reader, stored.pop(job_id)) for job_id in list(stored)}
    complete = [tree for tree in finished if postponed.isdisjoint(tree.result_ids)]
    outcomes = [_build_counted_outcome(tree, results, notes) for tree in complete]
    return RefreshedTrees(changed, outcomes, is_partial=len(complete) < len(finished))


def load_trees_with_funnels(
    connection: Connection, root_ids: Collection[int]
) -> tuple[Collection[JobTree], LogNotes]:
    """
    Read the complete trees of these jobs once, with the funnel jobs of other trees that they use.

    :return: the trees, and the notes about the finished ones.
    """
    forest = JobForest(is_full_read=True)
    _, _, notes = _refresh(connection, forest, root_ids)
    return forest.trees.values(), notes


def _refresh(
    connection: Connection, forest: JobForest, root_ids: Collection[int]
) -> tuple[set[JobTree], list[JobTree], LogNotes]:
    """Refresh trees until ``log_message`` mentions no further funnel or reset job of a finished tree."""
    changed = forest.refresh(connection, root_ids)
    while True:
        trees = [forest.trees[root_id] for root_id in root_ids]
        finished = [tree for tree in trees if tree.state() is not JobState.RUNNING]
        notes = load_notes(connection, finished)
        unfinished_ids = _add_funnels(forest, finished, notes) | {
            tree.root_id for tree in finished if not notes.reset.isdisjoint(tree.statuses)
        }
        for job_id in notes.reset:
            forest.mark_unsettled(job_id)
        if not unfinished_ids:
            return changed, finished, notes
        changed |= forest.refresh(connection, unfinished_ids)


def _add_funnels(forest: JobForest, trees: Iterable[JobTree], notes: LogNotes) -> set[int]:
    """Add the funnel jobs of other trees that the notes name, and return the roots of the changed trees."""
    return {
        tree.root_id
        for tree in trees
        for job_id in notes.funnels.keys() & tree.statuses.keys()
        for funnel_id in notes.funnels[job_id]
        if forest.add_shared_job(tree.root_id, funnel_id)
    }


def load_progress_messages(connection: Connection, trees: Iterable[JobTree]) -> dict[int, str]:
    """
    Return the last message of each tree in ``job_progress``; the table has to exist.

    :return: ``{root id: message}``; trees without a message are left out, and all trees if the table has
        other columns.
    """
    root_ids = {job_id: tree.root_id for tree in trees for job_id in tree.result_ids}
    messages: dict[int, str] = {}
    for chunk in sliced(list(root_ids), MAX_IDS_PER_STATEMENT):
        last_ids = (
            select(func.max(job_progress.c.job_progress_id))
            .where(is_in(job_progress.c.job_id, chunk))
            .group_by(job_progress.c.job_id)
        )
        message = func.substr(job_progress.c.message, 1, MAX_MESSAGE_CHARS).label("message")
        statement = select(job_progress.c.job_id, message).where(
            job_progress.c.job_progress_id.in_(last_ids.scalar_subquery())
        )
        try:
            rows = connection.execute(statement.order_by(job_progress.c.job_progress_id)).all()
        except DBAPIError as error:
            if not is_missing_column(error):
                raise
            return {}
        for row in rows:
            messages[root_ids[row.job_id]] = mask_text(row.message or "")
    return messages


class _Output(NamedTuple):
    """The ``result.output`` of a job: its value, and the reason why a text was not parsed as JSON."""

    value: Any = None
    warning: str | None = None


def _parse_output(reader: ResultReader, stored: StoredResult) -> _Output:
    text, problem = stored.text, stored.problem
    if text is not None and not problem:
        try:
            # NaN and infinity become texts: a report with these numbers would not be JSON.
            value = json.loads(text, parse_constant=str, parse_float=_parse_float)
            return _Output(replace_surrogates(value))
        except (ValueError, RecursionError):
            if column_type := reader.describe_full_column(stored):
                problem = f"was truncated by the column type {column_type} (make it LONGTEXT)"
            elif text.lstrip().startswith(("{", "[")):
                problem = "cannot be parsed as JSON"
    consequence = "" if text is None else "it is stored as text, and "
    warning = f"its result {problem}: {consequence}events that it returned were not submitted"
    return _Output(replace_surrogates(text), warning if problem else None)


def _parse_float(text: str) -> float | str:
    """Return a number, or its text if it is infinite."""
    value = float(text)
    return value if math.isfinite(value) else text


def _build_counted_outcome(tree: JobTree, results: Mapping[int, _Output], notes: LogNotes) -> JobOutcome:
    outcome = _build_outcome(tree, results, notes)
    done, failed = tree.count_by_status(*DONE_STATUSES), tree.count_by_status("FAILED")
    return replace(outcome, counts=(done, len(tree.statuses), failed))


def _build_outcome(tree: JobTree, results: Mapping[int, _Output], notes: LogNotes) -> JobOutcome:
    outputs = (results[job_id] for job_id in reversed(tree.result_ids) if job_id in results)
    output = next(outputs, _Output())
    match tree.state():
        case JobState.COMPLETE:
            return _build_complete_outcome(tree, output, notes)
        case JobState.FAILED:
            return JobOutcome(tree.root_id, JobState.FAILED, output.value, _build_error(tree, notes))
        case _:
            return JobOutcome(tree.root_id, JobState.MISSING, output.value, _build_missing_error(tree))


def _build_complete_outcome(tree: JobTree, output: _Output, notes: LogNotes) -> JobOutcome:
    if stopped := sorted(notes.stopped & tree.statuses.keys()):
        error = f"stopped by a user: {len(stopped)} of its jobs never ran, the first is {stopped[0]}"
        return JobOutcome(tree.root_id, JobState.STOPPED, output.value, error)
    if incomplete := sorted(notes.incomplete & tree.statuses.keys()):
        error = (
            f"{len(incomplete)} of its jobs never ran or were forgiven (eHive -discard_ready_jobs or"
            f" -forgive_failed_jobs), the first is {incomplete[0]}"
        )
        return JobOutcome(tree.root_id, JobState.STOPPED, output.value, error)
    warnings = [warning for warning in (_build_jobs_warning(tree, notes), output.warning) if warning]
    return JobOutcome(tree.root_id, JobState.COMPLETE, output.value, warning="; ".join(warnings) or None)


def _build_jobs_warning(tree: JobTree, notes: LogNotes) -> str | None:
    warnings = [text for job_id in tree.statuses for text in notes.warnings.get(job_id, ())]
    if not warnings:
        return None
    more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
    return f"eHive did not store some of its jobs, so its result may be incomplete: {warnings[0]}{more}"


def _build_error(tree: JobTree, notes: LogNotes) -> str:
    first, *others = sorted(tree.find_by_status("FAILED"))
    listed = ", ".join(map(str, others[:MAX_LISTED_JOBS]))
    more = f"\nand {len(others)} more of its jobs failed: {listed}" if others else ""
    error = notes.errors.get(first, f"job {first} failed, and was deleted or reset since")
    return error + more + "".join(_describe_tolerances(tree, notes))


def _describe_tolerances(tree: JobTree, notes: LogNotes) -> Iterator[str]:
    """
    Yield sentences that eHive continues although jobs failed.

    The percentage is one of all jobs of an analysis, for all events: it does not make this event a success.
    eHive's semaphores ignore it: a job behind a FAILED job never runs.
    """
    tolerances = {
        notes.tolerances[job_id] for job_id in tree.find_by_status("FAILED") if job_id in notes.tolerances
    }
    for analysis, percentage in sorted(tolerances):
        yield (
            f"\neHive tolerates {percentage} % of failed jobs of {analysis} (failed_job_tolerance), and may"
            " go on with other analyses, but the failed job is not done"
        )
    if tolerances and (waiting := tree.count_by_status("SEMAPHORED")):
        yield f"; {waiting} SEMAPHORED jobs of this tree never run"


def _build_missing_error(tree: JobTree) -> str:
    if not tree.deleted - {tree.root_id}:
        return f"job {tree.root_id} is no longer in the hive (deleted or hoovered): its outcome is unknown"
    deleted = ", ".join(map(str, sorted(tree.deleted)[:MAX_LISTED_JOBS]))
    return f"its jobs {deleted} were deleted before they finished: its outcome is unknown"
