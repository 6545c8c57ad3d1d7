"""
Submit events and follow them until they are finished.

See ``event-hooks COMMAND --help`` for the arguments of a command. The address comes from --uri or EVENT_URI;
the token from --token-file, EVENT_HOOKS_TOKEN or EVENT_HOOKS_TOKEN_FILE, or from a login: the user from
--user or EVENT_HOOKS_USER, and the password from EVENT_HOOKS_PASSWORD or a prompt.

Exit status: 0 success; 1 a process failed, or a check found a problem; 2 the request is invalid or rejected;
3 no answer, or a timeout; 130 Ctrl-C.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from os import environ
from pathlib import Path

from event_hooks.cli import commands
from event_hooks.client import RequestRejected, ServerUnreachable
from event_hooks.client.client import DEFAULT_URI

EVENTS_HELP = "one event, an array or JSON lines: as JSON, as a file with JSON, or - for standard input"

Command = Callable[[Namespace], int]
AddCommand = Callable[[str, Command], ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a command and return the exit status.

    :param arguments: of the command line; default: those of this process.
    """
    options = _build_parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except (ServerUnreachable, TimeoutError) as error:
        return _print_error(error, 3)
    except (RequestRejected, ValueError, OSError) as error:
        return _print_error(error, 2)
    except KeyboardInterrupt:
        return 130


def _print_error(error: Exception, status: int) -> int:
    print(f"event-hooks: {error}", file=sys.stderr)
    return status


def _build_parser() -> ArgumentParser:
    parser = ArgumentParser(
        "event-hooks",
        description=_help_text(__doc__),
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_command = _command_adder(parser)
    _add_event_commands(add_command)
    _add_job_commands(add_command)
    add_command("events", commands.list_events)
    add_command("processes", commands.list_processes)
    lint = add_command("lint", commands.lint)
    lint.add_argument("--event-lookup", type=Path, metavar="FILE", help="default: the file in the settings")
    lint.add_argument("--process-lookup", type=Path, metavar="FILE", help="default: the file in the settings")
    lint.add_argument("--offline", action="store_true", help="check the files only, not the hives")
    return parser


def _command_adder(parser: ArgumentParser) -> AddCommand:
    """Return a function that adds a command with the options that all commands have."""
    common = ArgumentParser(add_help=False, allow_abbrev=False)
    common.add_argument(
        "--uri", default=environ.get("EVENT_URI") or DEFAULT_URI, help="address of the API (%(default)s)"
    )
    common.add_argument("--token-file", metavar="FILE", help="file with a token of Airflow")
    common.add_argument(
        "--user", default=environ.get("EVENT_HOOKS_USER"), help="user of Airflow to log in as"
    )
    common.add_argument("--output", choices=("text", "json"), default="text", help="default: text")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def add_command(name: str, command: Command) -> ArgumentParser:
        text = _help_text(command.__doc__)
        subparser = subparsers.add_parser(
            name, help=text, description=text, parents=[common], allow_abbrev=False
        )
        subparser.set_defaults(command=command)
        return subparser

    return add_command


def _help_text(docstring: str | None) -> str:
    return (docstring or "").replace("`", "")


def _add_event_commands(add_command: AddCommand) -> None:
    submit, plan = add_command("submit", commands.submit), add_command("plan", commands.plan)
    for parser in (submit, plan):
        parser.add_argument("events", nargs="?", metavar="EVENT", help=EVENTS_HELP)
        parser.add_argument(
            "--idempotency-key", help="key of the request: a repeated request gets the same answer"
        )
    submit.add_argument("--follow", action="store_true", help="show the progress until they are finished")
    follow = add_command("follow", commands.follow)
    follow.add_argument("ids", nargs="+", type=int, metavar="ID", help="id of an event, as submit shows it")
    for parser in (submit, follow):
        parser.add_argument(
            "--timeout", type=float, metavar="SECONDS", help="maximum time to follow; default: no limit"
        )


def _add_job_commands(add_command: AddCommand) -> None:
    add_command("list", commands.list_jobs).add_argument("process")
    retrieve, delete = add_command("retrieve", commands.retrieve), add_command("delete", commands.delete)
    for parser in (retrieve, delete):
        parser.add_argument("process")
        parser.add_argument("job", type=int, help="id of the job in the hive of the process")
    retrieve.add_argument("--failures", action="store_true", help="show the errors of failed jobs only")
    retrieve.add_argument("--email", help="address to return in the answer")
