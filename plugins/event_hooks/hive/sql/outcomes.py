"""How trees that are over have ended: results, messages, and what has to be told with them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select

from event_hooks.hive.sql.job_trees import FINISHED, MAX_IDS_PER_STATEMENT, JobForest, JobTree, State
from event_hooks.hive.sql.tables import (
    analysis_base,
    chunks,
    is_in,
    job,
    job_progress,
    log_message,
    result,
)

MAX_ERROR = 4000
"""Characters of a failed job's message that travel on; the hive keeps all of it."""

MAX_RESULT = 65_535
"""Characters of a result that travel on: what eHive's TEXT column holds. A longer one is cut, and is text."""

STOPPED_NOTE = "Event hooks stopped this job"
"""Begins the note in ``log_message`` of a job that was made DONE without having run."""

RESUMED_NOTE = "Event hooks let this job run"
"""Begins the note that takes the other one back."""

_LEECH = re.compile(r"using an existing funnel Job dbID=(\d+)")
_COLLISION = "%failed to store the %"

# Lengths are bounded because a long text without spaces would take minutes otherwise.
_PASSWORD = re.compile(
    r"""(?P<url>://[^\s:/@"']{0,100}:)[^\s"'/]{1,200}(?P<at>@)
    |(?P<option>(?:-pass(?:word)?["']?\s{0,9}(?:=>|[=:,])?|\bpass(?:word)?["']?\s{0,9}(?:=>|[=:]))\s{0,9}["']?)
    [^\s"',;)]{1,200}""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True)
class JobOutcome:
    """How a submitted job ended."""

    job_id: int
    state: State
    result: Any = None
    """What the pipeline wrote into ``result.output``: JSON, or text that is not JSON; None without a row."""

    error: str | None = None
    warning: str | None = None
    """What makes a success doubtful: jobs that eHive did not store because equal ones were there."""

    counts: Sequence[int] | None = field(default=None, compare=False)
    """How many jobs of its tree are done, are known, and have failed."""

    def as_dict(self) -> dict[str, Any]:
        """Give ``{"job_id", "state", "result", "error"}``, caution and counts if any, in types of JSON."""
        told = {"job_id": self.job_id, "state": self.state.value, "result": self.result, "error": self.error}
        more = {"warning": self.warning, "counts": self.counts}
        return told | {name: value for name, value in more.items() if value is not None}


@dataclass
class Notes:
    """What ``log_message`` says about trees that are over."""

    errors: dict[int, str] = field(default_factory=dict)
    """``{failed job: its last message}``."""

    warnings: dict[int, list[str]] = field(default_factory=dict)
    """``{job: what eHive did not store for it}``."""

    stopped: set[int] = field(default_factory=set)
    """Jobs that were stopped and not taken up again, by us or by eHive's own reset."""

    revived: set[int] = field(default_factory=set)
    """Jobs that were over, and that a person has reset since."""

    funnels: dict[int, set[int]] = field(default_factory=dict)
    """``{job: funnels of other trees that it uses}``."""


def look(
    connection: Connection, forest: JobForest, entries: Collection[int], tables: Collection[str]
) -> tuple[set[JobTree], list[JobOutcome]]:
    """
    Bring trees up to date, and give those that have changed and the outcomes of those that are over.

    Costs at most three statements more than :meth:`JobForest.look` for each 1,000 trees.

    :param tables: the names of the hive's tables; ``result`` may be missing.
    """
    changed, over, notes = _look(connection, forest, entries)
    results = _results(connection, over) if result.name in tables else {}
    return changed, [_counted(tree, _outcome(tree, results, notes)) for tree in over]


def read(connection: Connection, entries: Collection[int]) -> Collection[JobTree]:
    """Read the trees of these jobs, once and whole, with the funnels of other trees that they use."""
    forest = JobForest(whole=True)
    _look(connection, forest, entries)
    return forest.trees.values()


def _look(
    connection: Connection, forest: JobForest, entries: Collection[int]
) -> tuple[set[JobTree], list[JobTree], Notes]:
    changed = forest.look(connection, entries)
    while True:
        over = [tree for tree in map(forest.trees.__getitem__, entries) if tree.state() is not State.RUNNING]
        notes = _notes(connection, over)
        used = {
            tree.entry
            for tree in over
            for job_id in notes.funnels.keys() & tree.statuses.keys()
            for funnel in notes.funnels[job_id]
            if forest.use(tree.entry, funnel)
        }
        for job_id in notes.revived:
            forest.doubt(job_id)
        again = used | {tree.entry for tree in over if not notes.revived.isdisjoint(tree.statuses)}
        if not again:
            return changed, over, notes
        changed |= forest.look(connection, again)


def progress(connection: Connection, trees: Iterable[JobTree]) -> dict[int, str]:
    """Give the last ``job_progress`` message of each tree that has one: ``{entry: message}``."""
    entries = {job_id: tree.entry for tree in trees for job_id in tree.result_ids}
    found: dict[int, str] = {}
    for some in chunks(list(entries), MAX_IDS_PER_STATEMENT):
        last = (
            select(func.max(job_progress.c.job_progress_id))
            .where(is_in(job_progress.c.job_id, some))
            .group_by(job_progress.c.job_id)
        )
        rows = select(job_progress.c.job_id, job_progress.c.message).where(
            job_progress.c.job_progress_id.in_(last.scalar_subquery())
        )
        for row in connection.execute(rows.order_by(job_progress.c.job_progress_id)):
            found[entries[row.job_id]] = mask_passwords((row.message or "")[:MAX_ERROR])
    return found


def failures(connection: Connection, failed: Sequence[int]) -> dict[int, str]:
    """Give the last message of each of these failed jobs: ``{job_id: message}``."""
    notes = Notes()
    for some in chunks(failed, MAX_IDS_PER_STATEMENT):
        _read_notes(connection, some, (), notes)
    return notes.errors


def stopped_jobs(connection: Connection, trees: Iterable[JobTree]) -> set[int]:
    """Give the jobs that event hooks has stopped, and not let run again since."""
    notes = Notes()
    done = [job_id for tree in trees for job_id in tree.with_status("DONE")]
    for some in chunks(done, MAX_IDS_PER_STATEMENT):
        _read_notes(connection, [], some, notes)
    return notes.stopped


def _notes(connection: Connection, over: Sequence[JobTree]) -> Notes:
    """Ask only about failed jobs of failed trees, and about all jobs of complete ones."""
    notes = Notes()
    failed = [job_id for tree in over for job_id in tree.with_status("FAILED")]
    done = [job_id for tree in over if tree.state() is State.COMPLETE for job_id in tree.statuses]
    for some in chunks([*failed, *done], MAX_IDS_PER_STATEMENT):
        _read_notes(connection, set(failed).intersection(some), set(done).intersection(some), notes)
    return notes


def _read_notes(connection: Connection, failed: Collection[int], done: Collection[int], notes: Notes) -> None:
    message = log_message.c
    told = or_(
        message.message_class == "WORKER_ERROR",
        message.msg.like(_COLLISION),
        message.msg.like("%using an existing funnel%"),
        message.msg.like(f"{STOPPED_NOTE}%"),
        message.msg.like(f"{RESUMED_NOTE}%"),
    )
    rows = (
        select(
            job.c.job_id,
            analysis_base.c.logic_name,
            job.c.status,
            job.c.when_completed,
            message.message_class,
            func.substr(message.msg, 1, 2 * MAX_ERROR).label("msg"),
        )
        .join(analysis_base, analysis_base.c.analysis_id == job.c.analysis_id)
        .outerjoin(log_message, and_(message.job_id == job.c.job_id, told))
        .where(
            or_(
                is_in(job.c.job_id, failed),
                and_(
                    is_in(job.c.job_id, done),
                    or_(message.log_message_id.is_not(None), job.c.status.not_in(sorted(FINISHED))),
                ),
            )
        )
        .order_by(message.log_message_id)
    )
    for row in connection.execute(rows) if failed or done else ():
        if row.job_id in done and row.status not in FINISHED:
            notes.revived.add(row.job_id)
        else:
            _note(row, row.job_id in failed, notes)


def _note(row: Any, has_failed: bool, notes: Notes) -> None:
    """Sort one message in; they come in their order, so the last of a kind holds."""
    job_id, msg = row.job_id, row.msg or ""
    if has_failed:
        text = mask_passwords(msg).strip()[:MAX_ERROR] if row.message_class == "WORKER_ERROR" else ""
        if text or job_id not in notes.errors:
            text = text or "the hive has no message of it"
            notes.errors[job_id] = f"job {job_id} ({row.logic_name}) failed: {text}"
    elif funnel := _LEECH.search(msg):
        notes.funnels.setdefault(job_id, set()).add(int(funnel[1]))
    elif "failed to store the " in msg:
        notes.warnings.setdefault(job_id, []).append(mask_passwords(msg).strip()[:MAX_ERROR])
    elif msg.startswith(STOPPED_NOTE) and row.when_completed is None:
        notes.stopped.add(job_id)
    elif msg.startswith(RESUMED_NOTE):
        notes.stopped.discard(job_id)


def _results(connection: Connection, over: Iterable[JobTree]) -> dict[int, Any]:
    job_ids = [job_id for tree in over for job_id in tree.result_ids]
    wanted = select(result.c.job_id, result.c.output)
    rows = (
        row
        for some in chunks(job_ids)
        for row in connection.execute(wanted.where(is_in(result.c.job_id, some)))
    )
    return {row.job_id: _json_or_text(row.output) for row in rows}


def _counted(tree: JobTree, outcome: JobOutcome) -> JobOutcome:
    return replace(outcome, counts=(tree.count(*FINISHED), len(tree.statuses), tree.count("FAILED")))


def _outcome(tree: JobTree, results: Mapping[int, Any], notes: Notes) -> JobOutcome:
    found = next((results[job_id] for job_id in reversed(tree.result_ids) if job_id in results), None)
    match tree.state():
        case State.COMPLETE:
            return _complete(tree, found, notes)
        case State.FAILED:
            return JobOutcome(tree.entry, State.FAILED, found, _failure(tree, notes.errors))
        case _ if tree.gone - {tree.entry}:
            lost = ", ".join(map(str, sorted(tree.gone)[:20]))
            gone = f"its jobs {lost} were deleted before they were over: how it ended is unknown"
            return JobOutcome(tree.entry, State.MISSING, found, gone)
        case _:
            gone = f"job {tree.entry} is no longer in the hive (deleted or hoovered): how it ended is unknown"
            return JobOutcome(tree.entry, State.MISSING, found, gone)


def _complete(tree: JobTree, found: Any, notes: Notes) -> JobOutcome:
    if stopped := sorted(notes.stopped & tree.statuses.keys()):
        error = f"it was stopped by a person: {len(stopped)} of its jobs never ran, the first is {stopped[0]}"
        return JobOutcome(tree.entry, State.STOPPED, found, error)
    warnings = [text for job_id in tree.statuses for text in notes.warnings.get(job_id, ())]
    if not warnings:
        return JobOutcome(tree.entry, State.COMPLETE, found)
    more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
    warning = f"jobs of it were not stored, so its result may lack their part: {warnings[0]}{more}"
    return JobOutcome(tree.entry, State.COMPLETE, found, warning=warning)


def _failure(tree: JobTree, errors: Mapping[int, str]) -> str:
    first, *others = sorted(tree.with_status("FAILED"))
    listed = ", ".join(map(str, others[:20]))
    more = f"\nand {len(others)} more of its jobs failed: {listed}" if others else ""
    return errors.get(first, f"job {first} failed, and its row is gone since") + more


def _json_or_text(output: str | None) -> Any:
    try:
        return mask_passwords(json.loads((output or "")[:MAX_RESULT]))
    except (ValueError, RecursionError):
        return None if output is None else mask_passwords(output[:MAX_RESULT])


def mask_passwords(value: Any) -> Any:
    """Hide the passwords of addresses: eHive's own messages name the database with its password."""
    match value:
        case str():
            return replace_surrogates(_PASSWORD.sub(r"\g<url>\g<option>***\g<at>", value))
        case list():
            return [mask_passwords(item) for item in value]
        case dict():
            return {replace_surrogates(key): mask_passwords(item) for key, item in value.items()}
        case _:
            return value


def replace_surrogates(text: str) -> str:
    """Replace lone surrogates, which JSON may hold and no answer, page or database."""
    return text.encode("utf-8", "replace").decode()
