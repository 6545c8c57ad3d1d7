"""
Submit events and follow them until they are finished.

See ``event-hooks COMMAND --help`` for the arguments of a command. The address comes from --uri or EVENT_URI.
The token comes from --token-file, from a login as --user, from EVENT_HOOKS_TOKEN or EVENT_HOOKS_TOKEN_FILE,
or from a login as EVENT_HOOKS_USER, in this order. The password is EVENT_HOOKS_PASSWORD, or is prompted for.

Exit status: 0 success; 1 a process failed, or a check found a problem; 2 the request is invalid or rejected;
3 no answer, or a timeout; 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path

import argcomplete

from event_hooks import __version__
from event_hooks.cli import commands
from event_hooks.client import RequestRejected, ServerUnreachable
from event_hooks.client.client import DEFAULT_URI
from event_hooks.terminal import escape_text

EVENTS_HELP = "one event, an array or JSON lines: as JSON, as a file with JSON, or - for standard input"

Command = Callable[[Namespace], int]
AddCommand = Callable[[str, Command], ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a command and return the exit status.

    :param arguments: of the command line; default: those of this process.
    """
    parser = build_parser()
    argcomplete.autocomplete(parser)
    uri = os.environ.get("EVENT_URI") or DEFAULT_URI
    options = parser.parse_args(arguments, Namespace(uri=uri, token_file=None, user=None, output="text"))
    try:
        status = int(options.command(options))
        sys.stdout.flush()
    except BrokenPipeError:  # The reader, such as head, has ended: discard the rest of the output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ServerUnreachable, TimeoutError) as error:
        return _print_error(error, 3)
    except (RequestRejected, ValueError, OSError) as error:
        return _print_error(error, 2)
    except KeyboardInterrupt:
        return 130
    return status


def _print_error(error: Exception, status: int) -> int:
    print("event-hooks:", escape_text(str(error), allowed="\n"), file=sys.stderr)
    return status


def build_parser() -> ArgumentParser:
    """Return the parser of the command line."""
    common = _common_options()
    parser = ArgumentParser(
        "event-hooks",
        description=_help_text(__doc__),
        formatter_class=RawDescriptionHelpFormatter,
        parents=[common],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def add_command(name: str, command: Command) -> ArgumentParser:
        text = _help_text(command.__doc__)
        subparser = subparsers.add_parser(
            name, help=text, description=text, parents=[common], allow_abbrev=False
        )
        subparser.set_defaults(command=command)
        return subparser

    _add_event_commands(add_command)
    _add_job_commands(add_command)
    _add_lookup_commands(add_command)
    return parser


def _common_options() -> ArgumentParser:
    """Return the options that stand before or after the command; they have no defaults, which would win."""
    common = ArgumentParser(add_help=False, argument_default=SUPPRESS)
    common.add_argument("--uri", help=f"address of the API; default: EVENT_URI or {DEFAULT_URI}")
    common.add_argument("--token-file", metavar="FILE", help="file with a token of Airflow")
    common.add_argument("--user", help="user of Airflow to log in as")
    common.add_argument("--output", choices=("text", "json"), help="default: text")
    return common


def _help_text(docstring: str | None) -> str:
    return (docstring or "").replace("`", "")


def _add_event_commands(add_command: AddCommand) -> None:
    submit, plan = add_command("submit", commands.submit), add_command("plan", commands.plan)
    for parser in (submit, plan):
        parser.add_argument("events", nargs="?", metavar="EVENT", help=EVENTS_HELP)
        parser.add_argument(
            "--idempotency-key", help="key of the request: a repeated request gets the same answer"
        )
    plan.add_argument(
        "--since",
        metavar="TIME",
        help="compare the plans of events received since then, as in 30d, 12h or 2026-11-01T00:00:00Z",
    )
    plan.add_argument("--until", metavar="TIME", help="end of the period, as in --since; default: now")
    for name in ("--event-lookup", "--process-lookup"):
        help_text = "file with the other lookup; default: the present one"
        plan.add_argument(name, type=Path, metavar="FILE", help=help_text)
    submit.add_argument("--follow", action="store_true", help="show the progress until they are finished")
    follow = add_command("follow", commands.follow)
    follow.add_argument("ids", nargs="+", type=int, metavar="ID", help="id of an event, as submit shows it")
    find = add_command("find", commands.find_events)
    find.add_argument("--state", choices=("open", "failed", "complete"))
    find.add_argument("--type", help="type of the events")
    find.add_argument("--genome")
    find.add_argument(
        "--since", metavar="TIME", help="events received since then, as in 2h, 30d or 2026-11-01T00:00:00Z"
    )
    find.add_argument("--limit", type=int, default=100, help="maximum number of events; default: %(default)s")
    retry, stop = add_command("retry", commands.retry), add_command("stop", commands.stop)
    retry.add_argument(
        "--mode",
        choices=("failed_jobs", "process", "event"),
        default="failed_jobs",
        help="failed_jobs: run the failed jobs again; process: submit a new job; event: submit a new event"
        " with the same payload; default: %(default)s",
    )
    for parser in (retry, stop):
        _add_selection(parser)
        parser.add_argument("--follow", action="store_true", help="show the progress until they are finished")
    for parser in (submit, follow, retry, stop):
        parser.add_argument(
            "--timeout", type=float, metavar="SECONDS", help="maximum time to follow; default: no limit"
        )


def _add_selection(parser: ArgumentParser) -> None:
    """Add the options that select events, and that control the question."""
    parser.add_argument("ids", nargs="*", type=int, metavar="ID", help="id of an event; without a filter")
    parser.add_argument("--process", help="only this process; default: all")
    parser.add_argument("--state", choices=("open", "failed", "complete"))
    parser.add_argument("--type", help="type of the events")
    parser.add_argument("--genome", help="the whole genome; * stands for any text")
    times = "as in 2h, 30d or 2026-11-01T00:00:00Z"
    parser.add_argument("--since", metavar="TIME", help=f"events received since then, {times}")
    parser.add_argument("--until", metavar="TIME", help=f"events received before then, {times}")
    parser.add_argument("--force", action="store_true", help="select more than 100 events")
    parser.add_argument("--dry-run", action="store_true", help="show what would happen, and change nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _add_job_commands(add_command: AddCommand) -> None:
    list_jobs = add_command("list", commands.list_jobs)
    list_jobs.add_argument("process")
    list_jobs.add_argument("--limit", type=int, help="maximum number of jobs; default: all")
    retrieve, delete = add_command("retrieve", commands.retrieve), add_command("delete", commands.delete)
    for parser in (retrieve, delete):
        parser.add_argument("process")
        parser.add_argument("job", type=int, help="id of the job in the hive of the process")
    retrieve.add_argument("--failures", action="store_true", help="show the errors of failed jobs only")
    retrieve.add_argument("--email", help="address to return in the answer")


def _add_lookup_commands(add_command: AddCommand) -> None:
    add_command("events", commands.list_events)
    add_command("processes", commands.list_processes)
    lint = add_command("lint", commands.lint)
    lint.add_argument("--event-lookup", type=Path, metavar="FILE", help="default: the file in the settings")
    lint.add_argument("--process-lookup", type=Path, metavar="FILE", help="default: the file in the settings")
    lint.add_argument("--offline", action="store_true", help="check the files only, not the hives")
