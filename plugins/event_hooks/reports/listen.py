"""
Print reports as they come, without taking them from anybody's queue.

``python -m event_hooks.reports.listen --genome homo_sapiens --level WARN``, until Ctrl-C. It hears what is
sent from then on, in a queue of its own that is gone afterwards; the user must be allowed to make one.
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


class Ear:
    """Hears all reports of an exchange; of :func:`ear`."""

    def __init__(self, channel: Any, queue: str) -> None:
        self._channel = channel
        self._queue = queue

    def heard(self, seconds: float | None = 0) -> Iterator[tuple[str, dict[str, Any]]]:
        """
        Give routing key and body of what has come, and what comes.

        :param seconds: ends when nothing has come for so long; None never ends.
        """
        for method, _, body in self._channel.consume(
            self._queue, auto_ack=True, inactivity_timeout=None if seconds is None else max(seconds, 0.2)
        ):
            if method is None:
                self._channel.cancel()
                return
            yield method.routing_key, json.loads(body)


@contextmanager
def ear(hook: RabbitMQHook, exchange: str) -> Iterator[Ear]:
    """
    Hear reports from now on.

    :raises ReportNotPublished: if the broker does not allow it.
    """
    with hook.channel() as channel:
        queue = str(channel.queue_declare("", exclusive=True).method.queue)
        for kind in get_args(ReportType):  # by name: an exchange of type direct knows no patterns
            channel.queue_bind(queue, exchange, f"report.{kind.lower()}")
        yield Ear(channel, queue)


def is_asked_for(report: Mapping[str, Any], genome: str | None, event_type: str | None, level: str) -> bool:
    """Tell whether a report is about that genome and event type, if they are given, and important enough."""
    return (
        genome in (None, report["resource"])
        and event_type in (None, report["params"].get("type"))
        and is_at_least(report["report_type"], level)
    )


def main() -> int:
    """Print what is asked for; 1 if the broker does not allow it."""
    parser = argparse.ArgumentParser(prog="python -m event_hooks.reports.listen", description=__doc__)
    parser.add_argument("--genome", help="only of this genome")
    parser.add_argument("--type", help="only of this type of event, as in new_assembly")
    parser.add_argument("--level", default="DEBUG", choices=get_args(ReportType), help="no less than this")
    parser.add_argument("--json", action="store_true", help="print whole reports")
    parser.add_argument("--seconds", type=float, help="end when nothing has come for so long")
    asked = parser.parse_args()
    try:
        with ear(RabbitMQHook(), settings.report_exchange()) as reports:
            print("Listening …", file=sys.stderr, flush=True)
            for _, report in reports.heard(asked.seconds):
                if not is_asked_for(report, asked.genome, asked.type, asked.level):
                    continue
                line = f"{report['report_time']}  {report['report_type']:<5}  {report['resource'] or '-'}"
                shown = (
                    json.dumps(report, ensure_ascii=False) if asked.json else f"{line}  {report['message']}"
                )
                print(shown, flush=True)
    except ReportNotPublished as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
