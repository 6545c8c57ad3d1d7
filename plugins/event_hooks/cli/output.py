"""What the command prints, for people and for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

Told = dict[str, Any]

WIDE = 10_000
"""Columns where no terminal limits them: a program that reads the lines wants them whole."""

WRONG = ("failed", "stopped", "missing", "timed_out", "not_submitted")


def console() -> Console:
    """Give what prints to standard output; a job's message is text, whatever brackets it has."""
    width = None if sys.stdout.isatty() else WIDE
    return Console(markup=False, highlight=False, emoji=False, width=width)


def as_json(value: Any) -> None:
    """Print a value for a program."""
    console().out(json.dumps(value, indent=2, ensure_ascii=False), highlight=False)


def lines(texts: Iterable[str]) -> None:
    """Print lines."""
    for text in texts:
        console().print(text, soft_wrap=True)


def table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows below the names of their columns; None is left empty."""
    found = Table(*names, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        found.add_row(*("" if cell is None else str(cell) for cell in row))
    console().print(found)


def submitted(answers: Sequence[Told]) -> None:
    """Print what was taken in."""
    rows = [
        (one["id"], *_names(one["event"]), process["process"], process["job"], _state(process))
        for one in answers
        for process in one["processes"] or [{"process": "(none reacts)", "job": None, "state": ""}]
    ]
    table(("event", "type", "genome", "process", "job", "state"), rows)


def planned(plan: Told) -> None:
    """Print what would run where, and why the rest would not."""
    for one in plan["events"]:
        lines([" ".join(name for name in _names(one["event"]) if name) + ":"])
        rows = [
            ("  runs", found["process"], found["hive"], found["analysis"], _readiness(found))
            for found in one["processes"]
        ]
        rows += [("  not", other["process"], "", "", other["reason"]) for other in one["others"]]
        table(("", "process", "hive", "analysis", ""), rows)


def jobs(found: Iterable[Told]) -> None:
    """Print jobs, a line for each."""
    rows = []
    for job in found:
        event = job["input"].get("event", {}) if isinstance(job["input"], dict) else {}
        progress = job["progress"]
        done = f"{progress['complete']}/{progress['total']}"
        rows.append((job["id"], job["status"], done, *_names(event), job.get("when_completed")))
    table(("job", "status", "done", "type", "genome", "completed"), rows)


def fields(told: Told) -> None:
    """Print an answer, a line for each field."""
    lines(
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in told.items()
    )


def progress(event: Told, process: Told) -> str:
    """Say in a line how a process of an event is."""
    if process["is_finished"]:
        return f"{label(event, process)}: {process['state']}"
    counted = f", {process['done'] or 0} of {process['total']} jobs done" if process["total"] else ""
    said = f", {process['message']}" if process["message"] else ""
    return f"{label(event, process)}: {process['state']}{counted}{said}"


def label(event: Told, process: Told) -> str:
    """Name a process of an event."""
    return f"event {event['id']} ({event['genome'] or event['type']}) {process['process']}"


def is_wrong(process: Told) -> bool:
    """Tell whether a process is over, and not well."""
    return process["state"] in WRONG


def _state(process: Told) -> str:
    reason = process.get("error") or process.get("message")
    return f"{process['state']}: {reason}" if reason else str(process["state"])


def _names(event: Told) -> tuple[str, str]:
    return str(event.get("type") or ""), str(event.get("genome") or "")


def _readiness(found: Told) -> str:
    return "ready" if found["is_ready"] else str(found["problem"] or "the hive does not answer")
