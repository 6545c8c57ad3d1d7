"""Watching events until they are over."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from event_hooks.cli import output
from event_hooks.client import EventClient, ServerUnreachable

Told = dict[str, Any]


def follow(client: EventClient, ids: Sequence[int], timeout: float | None, is_quiet: bool) -> list[Told]:
    """
    Show how events are until all are over.

    :param timeout: seconds; default none.
    :param is_quiet: show nothing on standard output.
    :return: how each event ended, in the order of ``ids``.
    :raises TimeoutError: as :meth:`event_hooks.client.client.EventClient.follow`.
    """
    last: dict[int, Told] = {}
    try:
        with _view(is_quiet) as view:
            for event in client.follow(ids, timeout=timeout):
                last[event["id"]] = event
                view.update(event)
    except (KeyboardInterrupt, TimeoutError, ServerUnreachable):
        left = [str(one) for one in ids if not last.get(one, {}).get("is_finished")]
        print(f"The events go on. To follow them again: event-hooks follow {' '.join(left)}", file=sys.stderr)
        raise
    return [last[one] for one in ids]


class View(Protocol):
    """Shows events."""

    def update(self, event: Told) -> None:
        """Take in how an event is now."""


@contextmanager
def _view(is_quiet: bool) -> Iterator[View]:
    if is_quiet:
        yield _Nothing()
    elif not sys.stdout.isatty():
        yield _Lines()
    else:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=output.console()) as bars:
            yield _Bars(bars)


class _Nothing:
    def update(self, event: Told) -> None:
        """Show nothing."""


class _Lines:
    """Prints a line whenever a process has changed."""

    def __init__(self) -> None:
        self._shown: dict[tuple[int, str], str] = {}

    def update(self, event: Told) -> None:
        """Print what is new."""
        for process in event["processes"]:
            key, line = (event["id"], process["process"]), output.progress(event, process)
            if self._shown.get(key) != line:
                self._shown[key] = line
                output.lines([line])


class _Bars:
    """Shows a bar for each process."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[tuple[int, str], TaskID] = {}

    def update(self, event: Told) -> None:
        """Move the bars of an event."""
        for process in event["processes"]:
            key = event["id"], process["process"]
            if key not in self._tasks:
                self._tasks[key] = self._bars.add_task(output.label(event, process), total=None, state="")
            # The last look before the end may have missed some jobs: over is over.
            total = process["total"] or (1 if process["is_finished"] else None)
            done = total if process["is_finished"] else process["done"]
            self._bars.update(self._tasks[key], completed=done or 0, total=total, state=process["state"])
            if process["is_finished"]:
                self._bars.stop_task(self._tasks[key])


def verdict(events: Iterable[Told]) -> Iterator[str]:
    """Say in a line for each event how it ended, and below it what failed of it."""
    for event in events:
        yield f"event {event['id']} ({event['type']}, {event['genome'] or '-'}): {event['state']}"
        for process in event["processes"]:
            if output.is_wrong(process):
                reason = process["error"] or process["message"] or process["state"]
                told = reason.strip().replace("\n", "\n    ")
                yield f"  {process['process']}, job {process['job'] or '-'}: {told}"
