"""Jobs as people ask for them: one word, and what there is to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, inspect, select

from event_hooks.hive import perl
from event_hooks.hive.sql import outcomes
from event_hooks.hive.sql.job_trees import FINISHED, NOT_RUNNING, NOT_STARTED, JobForest, JobTree, State
from event_hooks.hive.sql.submission import extended_id
from event_hooks.hive.sql.tables import analysis_data, chunks, job, job_progress

if TYPE_CHECKING:
    from event_hooks.hive.sql.outcomes import JobOutcome

SHOWN_FAILURES = 100
"""Failed jobs of one tree whose messages are shown."""


@dataclass(frozen=True)
class JobView:
    """A job with all that grew from it. Source of the words: the Ensembl event app."""

    job_id: int
    input: Any
    """A dict; text, where it is not Perl that we can read."""

    status: str
    """complete, failed, submitted, running, or incomplete: begun, and nobody works on it now."""

    when_completed: datetime | None
    """UTC as far as the hive's server is; of the submitted job itself."""

    output: Any
    done: int
    total: int
    message: str | None
    """The newest of the hive's table ``job_progress``."""

    failures: dict[int, str]
    """``{failed job of its tree: message}``; what else it failed of stands under its own id."""


def look(
    connection: Connection, analysis_id: int, job_id: int | None, before: int | None, limit: int
) -> list[JobView]:
    """Show jobs of an analysis, the newest first; each statement sees what is committed by then."""
    wanted = select(job.c.job_id, job.c.input_id, job.c.when_completed).where(
        job.c.analysis_id == analysis_id
    )
    if job_id is not None:
        wanted = wanted.where(job.c.job_id == job_id)
    if before is not None:
        wanted = wanted.where(job.c.job_id < before)
    rows = connection.execute(wanted.order_by(job.c.job_id.desc()).limit(limit)).all()
    if not rows:
        return []
    tables = set(inspect(connection).get_table_names())
    forest = JobForest(whole=True)
    _, over = outcomes.look(connection, forest, [row.job_id for row in rows], tables)
    ended = {outcome.job_id: outcome for outcome in over}
    trees = [forest.trees[row.job_id] for row in rows]
    messages = outcomes.progress(connection, trees) if job_progress.name in tables else {}
    failed = [job_id for tree in trees for job_id in sorted(tree.with_status("FAILED"))[:SHOWN_FAILURES]]
    errors = outcomes.failures(connection, failed)
    inputs = _inputs(connection, rows)
    return [
        _view(row, inputs[row.job_id], tree, ended.get(row.job_id), messages, errors)
        for row, tree in zip(rows, trees, strict=True)
    ]


def _view(
    row: Any,
    text: str,
    tree: JobTree,
    ended: JobOutcome | None,
    messages: Mapping[int, str],
    errors: Mapping[int, str],
) -> JobView:
    failures = {job_id: errors[job_id] for job_id in tree.statuses if job_id in errors}
    if ended and ended.error and not failures:
        failures = {row.job_id: ended.error}  # it was stopped, or deleted in part
    return JobView(
        row.job_id,
        _read(text),
        _word(tree, ended),
        row.when_completed,
        ended.result if ended else None,
        tree.count(*FINISHED),
        len(tree.statuses),
        messages.get(row.job_id),
        failures,
    )


def _word(tree: JobTree, ended: JobOutcome | None) -> str:
    if ended:
        return "complete" if ended.state is State.COMPLETE else "failed"
    statuses = set(tree.statuses.values())
    if not statuses <= NOT_RUNNING:
        return "running"
    return "submitted" if statuses <= NOT_STARTED else "incomplete"


def _inputs(connection: Connection, rows: Sequence[Any]) -> dict[int, str]:
    """Give the whole input of each job."""
    data_ids = {row.job_id: found for row in rows if (found := extended_id(row.input_id)) is not None}
    texts: dict[int, str] = {}
    for some in chunks(sorted(set(data_ids.values()))):
        wanted = select(analysis_data).where(analysis_data.c.analysis_data_id.in_(some))
        texts |= {found.analysis_data_id: found.data for found in connection.execute(wanted)}
    return {row.job_id: texts.get(data_ids.get(row.job_id, -1), row.input_id) for row in rows}


def _read(text: str) -> Any:
    try:
        return _mended(perl.loads(text))
    except ValueError:
        return outcomes.mask_passwords(text)


def _mended(value: Any) -> Any:
    match value:
        case str():
            return outcomes.replace_surrogates(value)
        case list():
            return [_mended(item) for item in value]
        case dict():
            return {outcomes.replace_surrogates(key): _mended(item) for key, item in value.items()}
    return value
