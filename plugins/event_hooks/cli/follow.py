"""Follow events and show their progress until they are finished."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from event_hooks.cli import output
from event_hooks.client import ClientError, EventClient, RequestRejected

if TYPE_CHECKING:
    from event_hooks.client.results import EventSummary, ProcessDetails


def follow_events(
    client: EventClient, event_ids: Sequence[int], timeout: float | None, is_quiet: bool
) -> list[EventSummary]:
    """
    Show the progress of events until all are finished.

    On an interruption, and when the token has expired and the login is not known, standard error says how to
    follow the unfinished events again; they continue.

    :param timeout: seconds; default: no limit.
    :param is_quiet: print nothing on standard output.
    :return: the final state of each event, in the order of ``event_ids``.
    :raises TimeoutError: as :meth:`event_hooks.client.client.EventClient.follow`.
    """
    events: dict[int, EventSummary] = {}
    try:
        with _open_view(is_quiet) as view:
            for event in client.follow(event_ids, timeout=timeout):
                events[event["id"]] = event
                view.update(event)
    except (KeyboardInterrupt, TimeoutError, ClientError) as error:
        is_expired = isinstance(error, RequestRejected) and error.status == 401
        if isinstance(error, RequestRejected) and not is_expired:
            raise
        finished = {event_id for event_id, event in events.items() if event["is_finished"]}
        unfinished = [str(event_id) for event_id in event_ids if event_id not in finished]
        command = f"event-hooks follow {'--user NAME ' if is_expired else ''}{' '.join(unfinished)}"
        print(f"The events continue. To follow them again: {command}", file=sys.stderr)
        raise
    return [events[event_id] for event_id in event_ids]


def format_outcomes(events: Iterable[EventSummary]) -> Iterator[str]:
    """Return a line with the final state of each event, and below it the errors of its processes."""
    for event in events:
        yield f"event {event['id']} ({event['type']}, {event['genome'] or '-'}): {event['state']}"
        if event["rejected_reason"]:
            yield f"  {event['rejected_reason']}"
        for process in event["processes"]:
            if output.is_failed(process):
                reason = process["error"] or process["message"] or process["state"]
                indented = reason.strip().replace("\n", "\n    ")
                yield f"  {process['process']}, job {process['job'] or '-'}: {indented}"


class ProgressView(Protocol):
    """Shows the progress of events."""

    def update(self, event: EventSummary) -> None:
        """Show the current state of an event."""


@contextmanager
def _open_view(is_quiet: bool) -> Iterator[ProgressView]:
    if is_quiet:
        yield _QuietView()
    elif not sys.stdout.isatty():
        yield _LineView()
    else:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=output.make_console()) as progress:
            yield _BarView(progress)


class _QuietView:
    def update(self, event: EventSummary) -> None:
        """Print nothing."""


class _LineView:
    """Prints a line for each change of a process."""

    def __init__(self) -> None:
        self._printed: dict[tuple[int, str], str] = {}

    def update(self, event: EventSummary) -> None:
        """Print a line for each process that changed."""
        for process in event["processes"]:
            key, line = (event["id"], process["process"]), output.format_progress(event, process)
            if self._printed.get(key) != line:
                self._printed[key] = line
                output.print_lines([line])


class _BarView:
    """Shows a progress bar for each process."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[tuple[int, str], TaskID] = {}

    def update(self, event: EventSummary) -> None:
        """Update the bars of an event."""
        for process in event["processes"]:
            key = event["id"], process["process"]
            if key not in self._bars:
                label = output.format_label(event, process)
                self._bars[key] = self._progress.add_task(label, total=None, state="")
            self._update_bar(self._bars[key], process)

    def _update_bar(self, bar: TaskID, process: ProcessDetails) -> None:
        is_finished = process["is_finished"]
        # The last poll may miss the end of some jobs, so the bar of a complete process is always complete.
        total = process["total"] or (1 if is_finished else None)
        completed = total if process["state"] == "complete" else process["done"]
        self._progress.update(bar, completed=completed or 0, total=total, state=process["state"])
        if is_finished:
            self._progress.stop_task(bar)
