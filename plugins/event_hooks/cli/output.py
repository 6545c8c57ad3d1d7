"""Print results on standard output, as text or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from event_hooks.client import JsonObject

PIPE_COLUMNS = 10_000
"""Width of the output where standard output is not a terminal: programs need complete lines."""

FAILURE_STATES = ("failed", "stopped", "missing", "timed_out", "not_submitted", "unknown")
"""States of a finished process without success."""


def make_console() -> Console:
    """Return a console for standard output; it prints brackets in messages of jobs as they are."""
    width = None if sys.stdout.isatty() else PIPE_COLUMNS
    return Console(markup=False, highlight=False, emoji=False, width=width)


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    make_console().out(json.dumps(value, indent=2, ensure_ascii=False), highlight=False)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines of text."""
    for line in lines:
        make_console().print(line, soft_wrap=True)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows below their headers; None is an empty cell."""
    table = Table(*headers, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    make_console().print(table)


def print_submissions(submissions: Sequence[JsonObject]) -> None:
    """Print accepted events with their jobs."""
    no_process = {"process": "(no process reacts)", "job": None, "state": ""}
    rows = [
        (
            submission["id"],
            *_type_and_genome(submission["event"]),
            process["process"],
            process["job"],
            _format_state(process),
        )
        for submission in submissions
        for process in submission["processes"] or [no_process]
    ]
    print_table(("event", "type", "genome", "process", "job", "state"), rows)


def print_plan(plan: JsonObject) -> None:
    """Print the processes that would run for each event, and why the other processes would not."""
    for event in plan["events"]:
        print_lines([" ".join(filter(None, _type_and_genome(event["event"]))) + ":"])
        rows = [
            ("  runs", process["process"], process["hive"], process["analysis"], _format_readiness(process))
            for process in event["processes"]
        ]
        others = [*event["others"], *plan["not_reacting"][event["event"]["type"]]]
        rows += [("  does not run", other["process"], "", "", other["reason"]) for other in others]
        print_table(("", "process", "hive", "analysis", ""), rows)


def print_jobs(jobs: Iterable[JsonObject]) -> None:
    """Print a line for each job."""
    rows = []
    for job in jobs:
        event = job["input"].get("event", {}) if isinstance(job["input"], dict) else {}
        progress = job["progress"]
        done = f"{progress['complete']}/{progress['total']}"
        rows.append((job["id"], job["status"], done, *_type_and_genome(event), job.get("when_completed")))
    print_table(("job", "status", "done", "type", "genome", "completed"), rows)


def print_fields(result: JsonObject) -> None:
    """Print a line for each field of a result; a value that is not text is printed as JSON."""
    print_lines(
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in result.items()
    )


def format_progress(event: JsonObject, process: JsonObject) -> str:
    """Return a line with the state of a process of an event."""
    line = f"{format_label(event, process)}: {process['state']}"
    if process["is_finished"]:
        return line
    if process["total"]:
        line += f", {process['done'] or 0} of {process['total']} jobs done"
    return f"{line}, {process['message']}" if process["message"] else line


def format_label(event: JsonObject, process: JsonObject) -> str:
    """Return a label for a process of an event."""
    return f"event {event['id']} ({event['genome'] or event['type']}) {process['process']}"


def is_failed(process: JsonObject) -> bool:
    """Return whether a process is finished without success."""
    return process["state"] in FAILURE_STATES


def _type_and_genome(event: JsonObject) -> tuple[str, str]:
    return str(event.get("type") or ""), str(event.get("genome") or "")


def _format_state(process: JsonObject) -> str:
    reason = process.get("error") or process.get("message")
    return f"{process['state']}: {reason}" if reason else str(process["state"])


def _format_readiness(process: JsonObject) -> str:
    return "ready" if process["is_ready"] else str(process["problem"] or "the hive does not answer")
