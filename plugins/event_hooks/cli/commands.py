"""
The commands of ``event-hooks``; their docstrings are the help texts.

Each takes the parsed options, prints its result and returns the exit status: 0, or 1 if a process failed or a
check found a problem.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from getpass import getpass
from os import environ
from pathlib import Path
from typing import TYPE_CHECKING, Any

from event_hooks.cli import output
from event_hooks.cli.follow import follow_events, format_outcomes
from event_hooks.cli.input import read_events, read_lookup
from event_hooks.client import EventClient, load_token

if TYPE_CHECKING:
    from event_hooks.client.results import ActionResponse


def submit(options: Namespace) -> int:
    """Submit events; with ``--follow``, show their progress until they are finished."""
    events = read_events(options.events)
    with _make_client(options) as client:
        result = client.submit(events, options.idempotency_key)
        submissions = result if isinstance(result, list) else [result]
        if options.follow:
            return _follow(client, [submission["id"] for submission in submissions], options)
    _print_result(options, result, lambda: output.print_submissions(submissions))
    return 0


def plan(options: Namespace) -> int:
    """
    Show the jobs that events would create, if the hives are ready, and why other processes do not run.

    With ``--since``, compare the plans of received events under the present lookups and under other lookups.
    """
    if options.since is not None:
        return _compare_plans(options)
    _reject_options(options, "until", "event_lookup", "process_lookup", reason="expected only with --since")
    events = read_events(options.events)
    with _make_client(options) as client:
        plan = client.plan(events, options.idempotency_key)
    _print_result(options, plan, lambda: output.print_plan(plan))
    return int(any(not process["is_ready"] for event in plan["events"] for process in event["processes"]))


def _compare_plans(options: Namespace) -> int:
    reason = "expected no EVENT or --idempotency-key with --since, which reads the received events"
    _reject_options(options, "events", "idempotency_key", reason=reason)
    if options.event_lookup is None and options.process_lookup is None:
        raise ValueError("--since: expected also --event-lookup or --process-lookup, with the other lookup")
    event_lookup = read_lookup(options.event_lookup, "--event-lookup")
    process_lookup = read_lookup(options.process_lookup, "--process-lookup")
    with _make_client(options) as client:
        comparison = client.compare_plans(
            options.since, until=options.until, event_lookup=event_lookup, process_lookup=process_lookup
        )
    _print_result(options, comparison, lambda: output.print_comparison(comparison))
    return 0


def _reject_options(options: Namespace, *names: str, reason: str) -> None:
    """
    Check that options are not set.

    :raises ValueError: names the first option that is set, and the reason.
    """
    for name in names:
        if getattr(options, name) is not None:
            option = "EVENT" if name == "events" else f"--{name.replace('_', '-')}"
            raise ValueError(f"{option}: {reason}")


def retrieve(options: Namespace) -> int:
    """Show a job with the progress of its job tree."""
    result: Mapping[str, Any]
    with _make_client(options) as client:
        if options.failures:
            result = client.failures(options.process, options.job)
        else:
            result = client.retrieve(options.process, options.job, options.email)
    _print_result(options, result, lambda: output.print_fields(result))
    return 0


def list_jobs(options: Namespace) -> int:
    """List the jobs of a process, newest first."""
    with _make_client(options) as client:
        jobs = list(client.list(options.process, limit=options.limit))
    _print_result(options, jobs, lambda: output.print_jobs(jobs))
    return 0


def delete(options: Namespace) -> int:
    """Stop the jobs of a job tree that are not started; running jobs continue, and nothing is deleted."""
    with _make_client(options) as client:
        result = client.delete(options.process, options.job)
    _print_result(options, result, lambda: output.print_fields(result))
    return 0


def list_events(options: Namespace) -> int:
    """List the event types."""
    with _make_client(options) as client:
        names = client.events()
    _print_result(options, names, lambda: output.print_lines(names))
    return 0


def list_processes(options: Namespace) -> int:
    """List the processes."""
    with _make_client(options) as client:
        names = client.processes()
    _print_result(options, names, lambda: output.print_lines(names))
    return 0


def follow(options: Namespace) -> int:
    """Show the progress of events until they are finished."""
    with _make_client(options) as client:
        return _follow(client, options.ids, options)


def find_events(options: Namespace) -> int:
    """List events that match all filters, newest first."""
    filters = {name: getattr(options, name) for name in ("state", "type", "genome", "since", "limit")}
    with _make_client(options) as client:
        events = list(client.find_events(**filters))
    _print_result(options, events, lambda: output.print_events(events))
    return 0


def retry(options: Namespace) -> int:
    """
    Retry the failed processes of events, by their ids or by filters.

    The command shows what would happen, and asks before it changes anything.
    """
    return _act(options, "retry", lambda client, **arguments: client.retry(mode=options.mode, **arguments))


def stop(options: Namespace) -> int:
    """
    Stop the jobs of unfinished processes that have not started; events are selected by ids or by filters.

    The command shows what would happen, and asks before it changes anything.
    """
    return _act(options, "stop", lambda client, **arguments: client.stop(**arguments))


def _act(options: Namespace, verb: str, send: Callable[..., ActionResponse]) -> int:
    if not options.dry_run and not options.yes and not sys.stdin.isatty():
        raise ValueError("--yes: expected, because standard input is not a terminal")
    names = ("process", "state", "type", "genome", "since", "until", "force")
    filters = {name: getattr(options, name) for name in names}
    with _make_client(options) as client:
        act = partial(send, client, event_ids=options.ids or None, **filters)
        result = act(dry_run=options.dry_run or not options.yes)
        if result["is_dry_run"] and not options.dry_run:
            if options.output == "text":
                output.print_actions(result, verb)
            if not result["applied"] or not _confirm(verb, result):
                return 0
            result = act(dry_run=False)
        _print_result(options, result, lambda: output.print_actions(result, verb))
        if not options.follow or options.dry_run:
            return 0
        followed = [item["new_event"] or item["event"] for item in result["items"] if item["is_applied"]]
        status = _follow(client, list(dict.fromkeys(followed)), options)
        return 0 if verb == "stop" else status  # a stopped event is failed, as it was requested


def _confirm(verb: str, result: ActionResponse) -> bool:
    count = result["applied"]
    question = f"{verb.capitalize()} {count} {'item' if count == 1 else 'items'}? [y/N] "
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def lint(options: Namespace) -> int:
    """Check the lookup files and the hives that they name; needs Airflow, because it uses its connections."""
    try:
        from event_hooks.cli.lint import lint as check
    except ImportError as error:
        raise ValueError(f"lint needs the packages in requirements.txt: {error}") from error
    findings = list(check(options.event_lookup, options.process_lookup, is_offline=options.offline))
    lines = [str(finding) for finding in findings] or ["No problem found in the lookups"]
    _print_result(options, [finding._asdict() for finding in findings], lambda: output.print_lines(lines))
    return int(any(finding.level == "error" for finding in findings))


def _make_client(options: Namespace) -> EventClient:
    token = _find_token(options)
    return EventClient(options.uri, token, login=None if token else _find_login(options))


def _find_token(options: Namespace) -> str | None:
    """Return the token of the arguments or else of the environment."""
    if options.token_file:
        return Path(options.token_file).read_text("utf-8-sig")
    return None if options.user else load_token()


def _find_login(options: Namespace) -> tuple[str, str] | None:
    """Return user and password of the arguments or else of the environment; the prompt hides the password."""
    user = options.user or environ.get("EVENT_HOOKS_USER")
    if not user:
        return None
    return user, environ.get("EVENT_HOOKS_PASSWORD") or getpass(f"Password of {user}: ")


def _follow(client: EventClient, event_ids: Sequence[int], options: Namespace) -> int:
    events = follow_events(client, event_ids, options.timeout, is_quiet=options.output == "json")
    _print_result(options, events, lambda: output.print_lines(format_outcomes(events)))
    return int(any(event["state"] in ("failed", "rejected") for event in events))


def _print_result(options: Namespace, result: Any, print_text: Callable[[], None]) -> None:
    if options.output == "json":
        output.print_json(result)
    else:
        print_text()
