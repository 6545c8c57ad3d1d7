"""
Print reports when they are published, without consuming them from a queue of another consumer.

``python -m event_hooks.reports.listen --genome homo_sapiens --level WARN`` runs until Ctrl-C. It receives the
reports published from its start on, in an exclusive queue that RabbitMQ deletes afterwards; its user needs
permission to declare one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_args

from event_hooks import settings
from event_hooks.exceptions import ReportNotPublished
from event_hooks.reports.hook import RabbitMQHook
from event_hooks.reports.report import ReportType, is_at_least
from event_hooks.terminal import escape_text

MIN_TIMEOUT_SECONDS = 0.2
"""Minimum time to wait for a report: messages of the queue arrive asynchronously."""


class ReportListener:
    """Receive all reports of an exchange; made by :func:`listen`."""

    def __init__(self, channel: Any, queue: str) -> None:
        self._channel = channel
        self._queue = queue

    def iter_reports(self, timeout: float | None = 0) -> Iterator[tuple[str, dict[str, Any]]]:
        """
        Yield routing key and body of each report.

        :param timeout: seconds without a report after which the iterator ends; ``None`` for no end.
        """
        seconds = None if timeout is None else max(timeout, MIN_TIMEOUT_SECONDS)
        for method, _, body in self._channel.consume(self._queue, auto_ack=True, inactivity_timeout=seconds):
            if method is None:
                self._channel.cancel()
                return
            yield method.routing_key, json.loads(body)


@contextmanager
def listen(hook: RabbitMQHook, exchange: str) -> Iterator[ReportListener]:
    """
    Receive the reports that are published from now on.

    :raises ReportNotPublished: the broker is unavailable or does not permit it.
    """
    with hook.channel() as channel:
        queue = str(channel.queue_declare("", exclusive=True).method.queue)
        # Each type has a binding, because an exchange of type direct does not support patterns.
        for report_type in get_args(ReportType):
            channel.queue_bind(queue, exchange, f"report.{report_type.lower()}")
        yield ReportListener(channel, queue)


def main() -> int:
    """Print the selected reports; return 1 if the broker is unavailable or does not permit it."""
    options = _parse_arguments()
    try:
        with listen(RabbitMQHook(), settings.report_exchange()) as listener:
            print("Listening …", file=sys.stderr, flush=True)
            for _, report in listener.iter_reports(options.seconds):
                if matches_filter(report, options.genome, options.type, options.level):
                    print(format_report(report, is_json=options.json), flush=True)
    except ReportNotPublished as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def matches_filter(report: Mapping[str, Any], genome: str | None, event_type: str | None, level: str) -> bool:
    """
    Return whether a report is about a genome and event type, and is severe enough.

    :param genome: ``None`` for all, as for ``event_type``.
    """
    return (
        genome in (None, report["resource"])
        and event_type in (None, report["params"].get("type"))
        and is_at_least(report["report_type"], level)
    )


def format_report(report: Mapping[str, Any], *, is_json: bool) -> str:
    """Return a line of text, or of JSON, which cannot control the terminal."""
    if is_json:
        return json.dumps(report)
    columns = (
        report["report_time"],
        f"{report['report_type']:<5}",
        report["resource"] or "-",
        report["message"],
    )
    return escape_text("  ".join(columns))


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m event_hooks.reports.listen", description=__doc__)
    parser.add_argument("--genome", help="only reports on this genome")
    parser.add_argument("--type", help="only reports on this type of event, as in new_assembly")
    parser.add_argument(
        "--level", default="DEBUG", choices=get_args(ReportType), help="minimum type of the reports"
    )
    parser.add_argument("--json", action="store_true", help="print whole reports as JSON")
    parser.add_argument("--seconds", type=float, help="end after this time without a report")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
