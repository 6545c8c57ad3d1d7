"""
Print results on standard output, as text or as JSON.

Texts of events, jobs and the server are escaped, so they cannot control the terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table

from event_hooks.terminal import escape_text

if TYPE_CHECKING:
    from event_hooks.client.results import (
        ActionItem,
        ActionResponse,
        EventSummary,
        JobResponse,
        PlanComparison,
        PlanDifference,
        PlannedProcess,
        PlanResponse,
        ProcessDetails,
        ProcessJob,
        SubmitResponse,
    )

FAILURE_STATES = ("failed", "stopped", "missing", "timed_out", "not_submitted", "unknown")
"""States of a finished process without success."""


def make_console() -> Console:
    """Return a console for standard output; it prints brackets in messages of jobs as they are."""
    return Console(markup=False, highlight=False, emoji=False)


def print_json(value: Any) -> None:
    """Print a value as indented JSON, in ASCII."""
    print(json.dumps(value, indent=2))


def print_lines(lines: Iterable[str]) -> None:
    """Print texts of one or more lines, at once also into a pipe: its reader may follow the progress."""
    for line in lines:
        print(escape_text(line, allowed="\n"))
    sys.stdout.flush()


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """
    Print rows; None is an empty cell.

    A terminal shows them as a table with headers. Other programs read values between tabs, without headers.
    """
    texts = [["" if cell is None else escape_text(str(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in texts:
            print(*row, sep="\t")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in texts:
        table.add_row(*row)
    make_console().print(table)


def print_submissions(submissions: Iterable[SubmitResponse]) -> None:
    """Print accepted events with their jobs, and on standard error the server's warnings, each once."""
    rows: list[Sequence[Any]] = []
    warnings: dict[str, None] = {}
    for submission in submissions:
        warnings |= dict.fromkeys(submission.get("warnings", ()))
        event = (submission["id"], *_type_and_genome(submission["event"]))
        rows += [
            (*event, process["process"], process["job"], _format_state(process))
            for process in submission["processes"]
        ] or [(*event, "(no process reacts)", None, None)]
    print_table(("event", "type", "genome", "process", "job", "state"), rows)
    for warning in warnings:
        print(f"Warning: {escape_text(warning)}", file=sys.stderr)


def print_events(events: Iterable[EventSummary]) -> None:
    """Print a line for each event, with its failed processes and the time at which it was received."""
    rows = []
    for event in events:
        failed = ", ".join(_name_job(process) for process in event["processes"] if is_failed(process))
        reason = event["rejected_reason"] or failed
        rows.append(
            (event["id"], event["received_at"], event["type"], event["genome"], event["state"], reason)
        )
    print_table(("event", "received", "type", "genome", "state", "failed"), rows)


def print_plan(plan: PlanResponse) -> None:
    """Print the processes that would run for each event, and why the other processes would not."""
    rows: list[Sequence[Any]] = []
    for planned in plan["events"]:
        event = _type_and_genome(planned["event"])
        rows += [
            (*event, "runs", process["process"], process["hive"], process["analysis"], _readiness(process))
            for process in planned["processes"]
        ]
        others = [*planned["others"], *plan["not_reacting"][planned["event"]["type"]]]
        rows += [(*event, "does not run", other["process"], None, None, other["reason"]) for other in others]
    print_table(("type", "genome", "", "process", "hive", "analysis", ""), rows)


def print_comparison(comparison: PlanComparison) -> None:
    """Print the differences, then the types of rejected events, and on standard error the totals."""
    rows: list[Sequence[Any]] = []
    for difference in comparison["differences"]:
        kind, process = difference["type"], difference["process"]
        now, then = _format_reaction(difference, "now"), _format_reaction(difference, "then")
        if difference["is_moved"] and difference["place_now"] == difference["place_then"]:
            then += ", another hive_uri"
        examples = _join_ids(difference["event_ids"])
        rows.append((kind, process, difference["now"], difference["then"], now, then, examples))
    for rejected in comparison["rejected"]:
        counts = rejected["now"], rejected["then"]
        examples = _join_ids(rejected["event_ids"])
        rows.append((rejected["type"], "(rejected)", *counts, None, rejected["reason"], examples))
    print_table(("type", "process", "now", "then", "reaction now", "reaction then", "events"), rows)
    totals = f"{comparison['events']} events compared, {comparison['unchanged']} without a difference"
    if comparison["excluded"]:
        totals += f"; {comparison['excluded']} events of joins or partial repetitions excluded"
    print(totals, file=sys.stderr)


def print_actions(result: ActionResponse, verb: str) -> None:
    """
    Print a line for each process of a retry or a stop, and on standard error the number of them.

    :param verb: retry or stop.
    """
    rows = [
        (
            item["event"],
            item["type"],
            item["genome"],
            item["process"],
            item["state"],
            _format_action(item, verb),
        )
        for item in result["items"]
    ]
    print_table(("event", "type", "genome", "process", "state", "action"), rows)
    would = "would be " if result["is_dry_run"] else ""
    done = {"retry": "retried", "stop": "stopped"}[verb]
    print(f"{result['applied']} of {len(rows)} {would}{done}", file=sys.stderr)
    for problem in result["problems"]:
        print(f"Warning: {escape_text(problem)}", file=sys.stderr)


def print_jobs(jobs: Iterable[JobResponse]) -> None:
    """Print a line for each job."""
    rows = []
    for job in jobs:
        event = job["input"].get("event", {}) if isinstance(job["input"], dict) else {}
        progress = job["progress"]
        done = f"{progress['complete']}/{progress['total']}"
        rows.append((job["id"], job["status"], done, *_type_and_genome(event), job.get("when_completed")))
    print_table(("job", "status", "done", "type", "genome", "completed"), rows)


def print_fields(result: Mapping[str, Any]) -> None:
    """Print a line for each field of a result; a value that is not text is printed as JSON."""
    print_lines(
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in result.items()
    )


def format_progress(event: EventSummary, process: ProcessDetails) -> str:
    """Return a line with the state of a process of an event."""
    line = f"{format_label(event, process)}: {process['state']}"
    if process["is_finished"]:
        return line
    if process["total"]:
        line += f", {process['done'] or 0} of {process['total']} jobs done"
    return f"{line}, {escape_text(process['message'])}" if process["message"] else line


def format_label(event: EventSummary, process: ProcessDetails) -> str:
    """Return a label for a process of an event."""
    return escape_text(f"event {event['id']} ({event['genome'] or event['type']}) {process['process']}")


def is_failed(process: ProcessDetails) -> bool:
    """Return whether a process is finished without success."""
    return process["state"] in FAILURE_STATES


def _format_action(item: ActionItem, verb: str) -> str:
    if not item["is_applied"]:
        return f"none: {item['reason']}"
    return f"{verb}: new event {item['new_event']}" if item["new_event"] else verb


def _name_job(process: ProcessDetails) -> str:
    """Return a process with the id of its job, which other commands take."""
    return f"{process['process']} (job {process['job']})" if process["job"] else process["process"]


def _type_and_genome(event: Mapping[str, Any]) -> tuple[str, str]:
    return str(event.get("type") or ""), str(event.get("genome") or "")


def _format_state(process: ProcessJob) -> str:
    reason = process.get("message")
    return f"{process['state']}: {reason}" if reason else process["state"]


def _format_reaction(difference: PlanDifference, side: Literal["now", "then"]) -> str:
    """Return place and join of a process under the lookups of one side."""
    is_now = side == "now"
    place = difference["place_now"] if is_now else difference["place_then"]
    join = difference["join_now"] if is_now else difference["join_then"]
    if place is None:
        return "does not react"
    if join is None:
        return place
    return f"{place}, join of {' and '.join(join['after'])} within {join['within']:g} s, then {join['then']}"


def _join_ids(event_ids: Iterable[int]) -> str:
    return ", ".join(map(str, event_ids))


def _readiness(process: PlannedProcess) -> str:
    return "ready" if process["is_ready"] else process["problem"] or "the hive does not answer"
