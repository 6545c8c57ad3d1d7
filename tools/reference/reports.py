"""The reports, built by the code that reports events."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from event_hooks.collect_events.params import CollectParams
from event_hooks.collect_events.summary import CollectSummary, build_report
from event_hooks.events.models import Event
from event_hooks.hive.sql.beekeepers import build_advice, describe_absence
from event_hooks.hive.sql.diagnosis import Stall
from event_hooks.ledger.records import ProcessState, ProcessStatus, ProgressUpdate, RunEvents
from event_hooks.reports.builder import ReportBuilder, ReportStep
from event_hooks.reports.report import Report
from tools.reference.markdown import format_code, format_json, format_table, join_blocks
from tools.reference.schema import Schema, describe, describe_type

RUN_ID = "api__20261128T200000_0123456789ab"
TIME = datetime(2026, 11, 28, 20, 0, tzinfo=UTC)
JOB_ID = 7

_EVENT = Event.model_validate({"type": "new_assembly", "genome": "homo_sapiens", "event_id": "42"})
_BUILDER = ReportBuilder(RunEvents(RUN_ID, {0: _EVENT}, {0: 1}))
_COMPLETE = {"job_id": JOB_ID, "state": ProcessState.COMPLETE, "result": {"files": 25}, "error": None}
_FAILED = {
    "job_id": JOB_ID,
    "state": ProcessState.FAILED,
    "result": None,
    "error": "job 9 (dump_chromosome): No space left on device",
}
_FOLLOW_UP = {"type": "new_dump", "genome": "homo_sapiens", "event_id": f"{RUN_ID}/dump_dna/0/0"}


_STATUS = ProcessStatus(1, 0, "dump_dna", "hive_event_handling", "event_dump_dna", JOB_ID)
_FINISHED = replace(_STATUS, state=ProcessState.COMPLETE, finished_at=TIME)
_PROGRESS = ProgressUpdate(1, done=3, total=10, failed=0, message="dumped chromosome 3")
_STALL = Stall(
    "no_beekeeper",
    "event_dump_dna",
    f"READY, and {describe_absence(None)}",
    build_advice(None, "<URL of connection hive_event_handling>"),
    {JOB_ID: [JOB_ID]},
)

Case = tuple[ReportStep, str, Callable[[ReportBuilder], Report]]

CASES: Sequence[Case] = (
    (
        ReportStep.RECEIVED,
        "The event is in the ledger.",
        lambda build: build.received(0, ["dump_dna"]),
    ),
    (
        ReportStep.DUPLICATE,
        "The event is known from another run. Sent only if `report_level` is DEBUG.",
        lambda build: build.duplicate(0, "api__20261127T080000_ba9876543210"),
    ),
    (
        ReportStep.REJECTED,
        "No process runs for the event: it is invalid, its type left the lookup, or `route` failed.",
        lambda build: build.rejected(
            0, "type: expected one of new_assembly, new_genebuild, not 'new_asembly'"
        ),
    ),
    (
        ReportStep.SUBMITTED,
        "The job of a process is in its hive.",
        lambda build: build.submitted(0, "dump_dna", JOB_ID),
    ),
    (
        ReportStep.PROGRESS,
        "The job tree of a process has changed; at most one report in each `progress_interval`. The ledger"
        " deletes the report when it is sent.",
        lambda build: build.progress([0], "dump_dna", JOB_ID, _PROGRESS),
    ),
    (
        ReportStep.STALLED,
        "Jobs make no progress: no worker claims them, or they are blocked. Once for each occurrence.",
        lambda build: build.stalled([0], "dump_dna", JOB_ID, _STALL.kind, str(_STALL), ""),
    ),
    (
        ReportStep.LATE,
        "A process is unfinished after its `deadline`. Once for a process of a run.",
        lambda build: build.late(0, "dump_dna", JOB_ID, 1, 3600),
    ),
    (
        ReportStep.RETRY_REQUESTED,
        "A user retries a process.",
        lambda build: build.requested(
            ReportStep.RETRY_REQUESTED, 0, "dump_dna", "ada", "", mode="failed_jobs"
        ),
    ),
    (
        ReportStep.STOP_REQUESTED,
        "A user stops a process.",
        lambda build: build.requested(ReportStep.STOP_REQUESTED, 0, "dump_dna", "ada", ""),
    ),
    (
        ReportStep.PROCESS_FINISHED,
        "The job and all its descendants are done. Once.",
        lambda build: build.process_finished(0, "dump_dna", _COMPLETE, ""),
    ),
    (
        ReportStep.PROCESS_FINISHED,
        "The same, but the success may be incomplete: eHive did not store a job because an equal one existed,"
        " or the result was not parsed.",
        lambda build: build.process_finished(
            0, "dump_dna", {**_COMPLETE, "warning": "its result was not parsed: it is not JSON"}, ""
        ),
    ),
    (
        ReportStep.PROCESS_FINISHED,
        "A job failed, was stopped, timed out or is missing. Once for each attempt of `wait`.",
        lambda build: build.process_finished(0, "dump_dna", _FAILED, ""),
    ),
    (
        ReportStep.PROCESS_FINISHED,
        "No job was submitted.",
        lambda build: build.not_submitted(0, "dump_dna", "hive 'hive_event_handling' does not answer", ""),
    ),
    (
        ReportStep.PROCESS_FINISHED,
        "A user marked the task `wait` as success, so the outcome was not read.",
        lambda build: build.outcome_unknown(
            0, "dump_dna", JOB_ID, "the outcome of the job was not read", "", is_user_decision=True
        ),
    ),
    (
        ReportStep.FOLLOW_UP_REJECTED,
        "A follow-up event is invalid, or the event server rejects it.",
        lambda build: build.follow_up_rejected(0, "dump_dna", _FOLLOW_UP, "type: expected a known type"),
    ),
    (
        ReportStep.JOIN_TIMED_OUT,
        'The events of a join with `"then": "alert"` did not all arrive in time.',
        lambda build: build.join_timed_out(
            0, "dump_flatfile", ["new_genebuild", "new_xrefs"], ["new_xrefs"], TIME
        ),
    ),
    (
        ReportStep.EVENT_FINISHED,
        "The run has finished all processes of the event. Sent again after each later outcome: the last"
        " report counts.",
        lambda build: build.event_finished(0, [_FINISHED]),
    ),
    (
        ReportStep.EVENT_FINISHED,
        "The lookup has no process for the type.",
        lambda build: build.no_process(0),
    ),
    (
        ReportStep.EVENT_FINISHED,
        "All processes for the type wait for further events.",
        lambda build: build.no_process(0, ["dump_flatfile"]),
    ),
)
"""``(step, case in which it is reported, function that builds an example)``, in the order of an event."""


def render_steps() -> str:
    """Return a section for each step, with an example of each case."""
    sections: dict[str, list[str]] = {}
    for step, when, build in CASES:
        report = build(_BUILDER)
        parts = sections.setdefault(step, [f"### {step}"])
        parts += [f"`{report.routing_key}`: {when}", format_code(report.message, "text")]
    return join_blocks(part for parts in sections.values() for part in parts)


def render_collected() -> str:
    """Return an example of the message on a window of ensembl_metadata."""
    params = CollectParams(TIME, TIME.replace(minute=15))
    summary = CollectSummary(found=3, started=2, duplicates=1, succeeded=1, running=2, runs=["collect__…"])
    [report] = build_report(summary, params, "scheduled__2026-11-28T20:15:00+00:00")
    return format_code(json.loads(report.body)["message"], "text")


def render_report_json() -> str:
    """Return a complete report."""
    report = _BUILDER.process_finished(0, "dump_dna", _COMPLETE, "")
    times = {"host": "worker-1", "report_time": TIME.strftime("%Y-%m-%dT%H:%M:%S.000")}
    return format_json(json.loads(report.model_copy(update=times).body))


def render_report_fields() -> str:
    """Return the fields of a report."""
    fields: dict[str, Schema] = Report.model_json_schema(mode="serialization")["properties"]
    rows = [(f"`{name}`", describe_type(field), describe(field)) for name, field in fields.items()]
    return format_table(("Field", "Type", "Meaning"), rows)
