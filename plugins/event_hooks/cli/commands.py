"""
The verbs of the command.

Each takes what the command line says, prints, and gives the exit status: 0, or 1 if a process failed or
something is not as it should be.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from getpass import getpass
from os import environ
from pathlib import Path
from typing import Any

from event_hooks.cli import follow as following
from event_hooks.cli import output
from event_hooks.cli.input import read_events
from event_hooks.client import EventClient, load_token, log_in

Told = dict[str, Any]


def submit(asked: Namespace) -> int:
    """Have events done; with ``--follow`` show how until they are over."""
    events = read_events(asked.events)
    client = _client(asked)
    answer = client.submit(events, asked.idempotency_key)
    answers = answer if isinstance(answer, list) else [answer]
    if asked.follow:
        return _follow(client, [one["id"] for one in answers], asked)
    _print(asked, answer, lambda: output.submitted(answers))
    return 0


def plan(asked: Namespace) -> int:
    """Show what events would do, whether the hives are ready, and why other processes do nothing."""
    plan = _client(asked).plan(read_events(asked.events), asked.idempotency_key)
    _print(asked, plan, lambda: output.planned(plan))
    return int(any(not process["is_ready"] for event in plan["events"] for process in event["processes"]))


def retrieve(asked: Namespace) -> int:
    """Show a job, with what has grown from it."""
    client = _client(asked)
    if asked.failures:
        told: Told = client.failures(asked.process, asked.job)
    else:
        told = client.retrieve(asked.process, asked.job, asked.email)
    _print(asked, told, lambda: output.fields(told))
    return 0


def list_jobs(asked: Namespace) -> int:
    """List the jobs of a process, the newest first."""
    jobs = list(_client(asked).list(asked.process))
    _print(asked, jobs, lambda: output.jobs(jobs))
    return 0


def delete(asked: Namespace) -> int:
    """Stop what has not begun of a job; nothing is deleted, and what runs, runs on."""
    told = _client(asked).delete(asked.process, asked.job)
    _print(asked, told, lambda: output.fields(told))
    return 0


def events(asked: Namespace) -> int:
    """List the types of events."""
    names = _client(asked).events()
    _print(asked, names, lambda: output.lines(names))
    return 0


def processes(asked: Namespace) -> int:
    """List the processes."""
    names = _client(asked).processes()
    _print(asked, names, lambda: output.lines(names))
    return 0


def follow(asked: Namespace) -> int:
    """Show how events are until all are over."""
    return _follow(_client(asked), asked.ids, asked)


def lint(asked: Namespace) -> int:
    """Check the lookup files, and ask the hives that they name; needs Airflow, whose connections it uses."""
    try:
        from event_hooks.cli.lint import lint as check
    except ImportError as error:
        raise ValueError(f"lint needs what requirements.txt names: {error}") from error
    findings = list(check(asked.event_lookup, asked.process_lookup, is_offline=asked.offline))
    lines = [str(one) for one in findings] or ["The lookups are as they should be"]
    _print(asked, [one._asdict() for one in findings], lambda: output.lines(lines))
    return int(any(one.level == "error" for one in findings))


def _client(asked: Namespace) -> EventClient:
    return EventClient(asked.uri, _token(asked))


def _token(asked: Namespace) -> str | None:
    """Find a token: a file, the environment, or a login whose password nobody sees."""
    if asked.token_file:
        return Path(asked.token_file).read_text()
    if (token := load_token()) or not asked.user:
        return token
    password = environ.get("EVENT_HOOKS_PASSWORD") or getpass(f"Password of {asked.user}: ")
    return log_in(asked.uri, asked.user, password)


def _follow(client: EventClient, ids: Sequence[int], asked: Namespace) -> int:
    ended = following.follow(client, ids, asked.timeout, is_quiet=asked.output == "json")
    _print(asked, ended, lambda: output.lines(following.verdict(ended)))
    return int(any(event["state"] == "failed" for event in ended))


def _print(asked: Namespace, value: Any, show_it: Callable[[], None]) -> None:
    if asked.output == "json":
        output.as_json(value)
    else:
        show_it()
