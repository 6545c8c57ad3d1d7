"""
Submit events, and see what becomes of them.

``event-hooks VERB --help`` says what a verb takes. The address comes from --uri or EVENT_URI; the token from
--token-file, EVENT_HOOKS_TOKEN or EVENT_HOOKS_TOKEN_FILE, or from a login: --user or EVENT_HOOKS_USER, with
the password in EVENT_HOOKS_PASSWORD or asked for.

Exit status: 0; 1 a process failed, or something is not as it should be; 2 the request makes no sense, or is
refused; 3 no answer, or none in time; 130 Ctrl-C.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from os import environ
from pathlib import Path

from event_hooks.cli import commands
from event_hooks.client import RequestRejected, ServerUnreachable
from event_hooks.client.client import URI

EVENTS = "JSON, a file with JSON, or - for what is piped in: one event, an array, or JSON lines"


def main(words: Sequence[str] | None = None) -> int:
    """
    Do what the command line says, and give the exit status.

    :param words: of the command line; default the process's own.
    """
    asked = _parser().parse_args(words)
    try:
        return int(asked.verb(asked))
    except (ServerUnreachable, TimeoutError) as error:
        return _failed(error, 3)
    except (RequestRejected, ValueError, OSError) as error:
        return _failed(error, 2)
    except KeyboardInterrupt:
        return 130


def _failed(error: Exception, status: int) -> int:
    print(f"event-hooks: {error}", file=sys.stderr)
    return status


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "event-hooks", description=__doc__, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = _adder(parser)
    submit, plan = add("submit", commands.submit), add("plan", commands.plan)
    for verb in (submit, plan):
        verb.add_argument("events", nargs="?", metavar="EVENT", help=EVENTS)
        verb.add_argument(
            "--idempotency-key", help="names the request: the same again is answered as the first"
        )
    submit.add_argument("--follow", action="store_true", help="show how it goes until all is over")
    _timeout(submit)
    retrieve = _of_job(add("retrieve", commands.retrieve))
    retrieve.add_argument("--failures", action="store_true", help="only the messages of what failed")
    retrieve.add_argument("--email", help="an address that is given back")
    add("list", commands.list_jobs).add_argument("process")
    _of_job(add("delete", commands.delete))
    add("events", commands.events)
    add("processes", commands.processes)
    follow = add("follow", commands.follow)
    follow.add_argument("ids", nargs="+", type=int, metavar="ID", help="of an event, as submit shows it")
    _timeout(follow)
    lint = add("lint", commands.lint)
    lint.add_argument("--event-lookup", type=Path, metavar="FILE", help="default: that of the settings")
    lint.add_argument("--process-lookup", type=Path, metavar="FILE", help="default: that of the settings")
    lint.add_argument("--offline", action="store_true", help="ask no hive")
    return parser


Verb = Callable[[Namespace], int]


def _adder(parser: ArgumentParser) -> Callable[[str, Verb], ArgumentParser]:
    """Give what adds a verb with the options that all have."""
    common = ArgumentParser(add_help=False, allow_abbrev=False)
    common.add_argument("--uri", default=environ.get("EVENT_URI") or URI, help="of the API (%(default)s)")
    common.add_argument("--token-file", metavar="FILE", help="holds a token of Airflow")
    common.add_argument("--user", default=environ.get("EVENT_HOOKS_USER"), help="logs in to Airflow")
    common.add_argument("--output", choices=("text", "json"), default="text", help="default: text")
    added = parser.add_subparsers(required=True, metavar="VERB")

    def add(name: str, verb: Verb) -> ArgumentParser:
        text = (verb.__doc__ or "").replace("`", "")
        made = added.add_parser(name, help=text, description=text, parents=[common], allow_abbrev=False)
        made.set_defaults(verb=verb)
        return made

    return add


def _of_job(verb: ArgumentParser) -> ArgumentParser:
    verb.add_argument("process")
    verb.add_argument("job", type=int, help="its id in the hive of the process")
    return verb


def _timeout(verb: ArgumentParser) -> None:
    verb.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="follow no longer; default: to the end"
    )
