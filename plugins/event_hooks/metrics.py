"""
The metrics of event hooks, sent to the backend of Airflow's own metrics; disabled if Airflow's metrics are.

Each metric has a name below ``event_hooks.`` and tags from lookups and settings. No tag holds a genome or
another value of an event, because the number of such values has no bound. Many processes of Airflow send
counts, and StatsD adds them up (``[metrics] statsd_on``, with ``statsd_influxdb_enabled`` for the tags);
OpenTelemetry takes the counts of each short task for a counter that restarts at 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from event_hooks.runtime import stats

if TYPE_CHECKING:
    from event_hooks.ledger.records import NewEvent

PREFIX = "event_hooks."


def is_enabled() -> bool:
    """Return whether Airflow has a metrics backend."""
    return stats.is_enabled()


def count_received(events: Iterable[NewEvent]) -> None:
    """Count new events by type and source: ``event_hooks.events_received``."""
    counts = Counter((event.type, event.source) for event in events)
    for (event_type, source), count in counts.items():
        _count("events_received", count, type=event_type, source=source)


def count_rejected(where: str, count: int = 1) -> None:
    """
    Count invalid input: ``event_hooks.inputs_rejected``.

    :param where: ``api`` (a request), ``run`` or ``collect`` (an event).
    """
    _count("inputs_rejected", count, where=where)


def record_time_to_ready(received: Iterable[tuple[str, datetime]]) -> None:
    """
    Record the time from the receipt of events to the submission of their jobs: ``event_hooks.time_to_ready``.

    :param received: the hive of each job, and the instant at which its event was received.
    """
    for hive, received_at in received:
        _time("time_to_ready", received_at, hive=hive)


def record_time_to_report(created: Iterable[datetime]) -> None:
    """
    Record the time for which reports were pending: ``event_hooks.time_to_report``.

    :param created: the instant at which each report was stored.
    """
    for created_at in created:
        _time("time_to_report", created_at)


def set_gauge(name: str, value: float, **tags: str) -> None:
    """Set the gauge ``event_hooks.<name>``."""
    stats.set_gauge(f"{PREFIX}{name}", value, tags)


def _count(name: str, count: int, **tags: str) -> None:
    if count:
        stats.increment(f"{PREFIX}{name}", count, tags)


def _time(name: str, since: datetime, **tags: str) -> None:
    stats.record_duration(f"{PREFIX}{name}", max(datetime.now(UTC) - since, timedelta(0)), tags)
