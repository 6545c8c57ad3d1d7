"""
Messages in a hive's table ``log_message``, and columns of jobs, that decide the outcome of finished trees.

eHive writes most of them; event hooks writes a note about each job that it stops or resets.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from more_itertools import sliced
from sqlalchemy import CompoundSelect, Connection, and_, func, not_, or_, select, union_all

from event_hooks.hive.sql.job_trees import DONE_STATUSES, MAX_IDS_PER_STATEMENT, JobState, JobTree
from event_hooks.hive.sql.tables import analysis_base, build_id_conditions, job, log_message
from event_hooks.masking import mask_text

MAX_MESSAGE_CHARS = 4000
"""Characters of a job's message that are returned; the hive keeps the full message."""

STOPPED_NOTE = "Event hooks stopped this job"
"""Beginning of the note in ``log_message`` about a job that event hooks set to DONE before it ran."""

RESUMED_NOTE = "Event hooks let this job run"
"""Beginning of the note that cancels the other one."""

_SHARED_FUNNEL = re.compile(r"using an existing funnel Job dbID=(\d+)")
_NOT_STORED = "%failed to store the %"


@dataclass
class LogNotes:
    """Data from ``log_message`` about finished trees."""

    errors: dict[int, str] = field(default_factory=dict)
    """``{failed job: its last message}``."""

    tolerances: dict[int, tuple[str, int]] = field(default_factory=dict)
    """``{failed job: (its analysis, percentage of failed jobs that eHive tolerates there)}``; without 0."""

    warnings: dict[int, list[str]] = field(default_factory=dict)
    """``{job: messages about jobs that eHive did not store for it}``."""

    stopped: set[int] = field(default_factory=set)
    """Jobs that were stopped, and not reset since by event hooks or by eHive."""

    incomplete: set[int] = field(default_factory=set)
    """Jobs that are DONE without a time of completion: stopped, discarded or forgiven."""

    reset: set[int] = field(default_factory=set)
    """Jobs that were finished when the tree was read, and that a user has reset since."""

    funnels: dict[int, set[int]] = field(default_factory=dict)
    """``{job: funnel jobs of other trees that it uses}``."""


def load_notes(connection: Connection, finished: Sequence[JobTree]) -> LogNotes:
    """Load the notes about the failed jobs of failed trees, and about all jobs of complete trees."""
    notes = LogNotes()
    failed_ids = {job_id for tree in finished for job_id in tree.find_by_status("FAILED")}
    done_ids = {job_id for tree in finished if tree.state() is JobState.COMPLETE for job_id in tree.statuses}
    _add_notes(connection, failed_ids, done_ids, notes)
    return notes


def load_failure_messages(connection: Connection, failed_ids: Collection[int]) -> dict[int, str]:
    """Return the last error message of each of these failed jobs: ``{job_id: message}``."""
    notes = LogNotes()
    _add_notes(connection, set(failed_ids), set(), notes)
    return notes.errors


def load_stopped_jobs(connection: Connection, trees: Iterable[JobTree]) -> set[int]:
    """Return the jobs that event hooks has stopped, and that were not reset since."""
    notes = LogNotes()
    done_ids = {job_id for tree in trees for job_id in tree.find_by_status("DONE")}
    _add_notes(connection, set(), done_ids, notes)
    return notes.stopped


def _add_notes(connection: Connection, failed_ids: set[int], done_ids: set[int], notes: LogNotes) -> None:
    for chunk in sliced(sorted(failed_ids | done_ids), MAX_IDS_PER_STATEMENT):
        rows = connection.execute(_select_messages(chunk)).all()
        for row in sorted(rows, key=lambda row: row.log_message_id or 0):
            if row.job_id in failed_ids:
                _add_failure(row, notes)
            elif row.status not in DONE_STATUSES:
                notes.reset.add(row.job_id)
            else:
                _add_note(row, notes)


def _select_messages(job_ids: Sequence[int]) -> CompoundSelect[Any]:
    """
    Select the messages of jobs, in undefined order.

    A job has a row if it has a message, did not complete, or is not done.

    :param job_ids: sorted.
    """
    message = log_message.c
    is_done = job.c.status.in_(sorted(DONE_STATUSES))
    is_incomplete = and_(job.c.status == "DONE", job.c.when_completed.is_(None))
    is_stop_or_reset = or_(message.msg.like(f"{STOPPED_NOTE}%"), message.msg.like(f"{RESUMED_NOTE}%"))
    is_relevant = or_(
        message.message_class == "WORKER_ERROR",
        message.msg.like(_NOT_STORED),
        message.msg.like("%using an existing funnel%"),
        and_(is_incomplete, is_stop_or_reset),  # a job that has completed is not stopped
    )
    columns = (
        job.c.job_id,
        analysis_base.c.logic_name,
        analysis_base.c.failed_job_tolerance,
        job.c.status,
        is_incomplete.label("is_incomplete"),
        message.log_message_id,
        message.message_class,
        func.substr(message.msg, 1, 2 * MAX_MESSAGE_CHARS).label("msg"),
    )
    statement = (
        select(*columns)
        .join(analysis_base, analysis_base.c.analysis_id == job.c.analysis_id)
        .outerjoin(log_message, and_(message.job_id == job.c.job_id, is_relevant))
        .where(or_(message.log_message_id.is_not(None), not_(is_done), is_incomplete))
    )
    return union_all(*map(statement.where, build_id_conditions(job.c.job_id, job_ids)))


def _add_failure(row: Any, notes: LogNotes) -> None:
    """Add a message of a failed job; messages come in order, so the last one is valid."""
    if row.failed_job_tolerance:
        notes.tolerances[row.job_id] = row.logic_name, row.failed_job_tolerance
    text = _clean_message(row.msg or "") if row.message_class == "WORKER_ERROR" else ""
    if text or row.job_id not in notes.errors:
        text = text or "the hive has no error message for it"
        notes.errors[row.job_id] = f"job {row.job_id} ({row.logic_name}) failed: {text}"


def _add_note(row: Any, notes: LogNotes) -> None:
    """Add a message of a done job; messages come in order, so the last one of a kind is valid."""
    job_id, msg = row.job_id, row.msg or ""
    if row.is_incomplete:
        notes.incomplete.add(job_id)
    if msg.startswith(STOPPED_NOTE):
        if row.is_incomplete:
            notes.stopped.add(job_id)
    elif msg.startswith(RESUMED_NOTE):
        notes.stopped.discard(job_id)
    elif match := _SHARED_FUNNEL.search(msg):
        notes.funnels.setdefault(job_id, set()).add(int(match[1]))
    elif "failed to store the " in msg:
        notes.warnings.setdefault(job_id, []).append(_clean_message(msg))


def _clean_message(msg: str) -> str:
    return mask_text(msg).strip()[:MAX_MESSAGE_CHARS]
