"""
What is measured: told to Airflow's own metrics, so it goes where these go, and nowhere if they are off.

Each has a name below ``event_hooks.`` and tags out of lookups and settings. None holds a genome, or another
value of an event: their number has no bound. Counts come from many processes, so StatsD adds them up
(``[metrics] statsd_on``, with ``statsd_influxdb_enabled`` for the tags); OpenTelemetry takes those of each
short task for a counter that begins anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from airflow.sdk.configuration import conf
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils

if TYPE_CHECKING:
    from event_hooks.ledger.records import NewEvent


@cache
def are_on() -> bool:
    """Tell whether Airflow measures at all; the first call makes it ready, in any process of Airflow."""
    stats.initialize(
        factory=stats_utils.get_stats_factory(),
        export_legacy_names=conf.getboolean("metrics", "legacy_names_on", fallback=False),
    )
    kinds = ("statsd_on", "statsd_datadog_enabled", "otel_on")
    return any(conf.getboolean("metrics", kind, fallback=False) for kind in kinds)


def received(events: Iterable[NewEvent]) -> None:
    """Count events that are new, by type and source: ``event_hooks.events_received``."""
    for (kind, source), count in Counter((one.type, one.source) for one in events).items():
        _count("events_received", count, type=kind, source=source)


def rejected(where: str, count: int = 1) -> None:
    """
    Count what was refused as wrong: ``event_hooks.inputs_rejected``.

    :param where: ``api`` (a request), ``run`` or ``collect`` (an event).
    """
    _count("inputs_rejected", count, where=where)


def ready(since: Iterable[tuple[str, datetime]]) -> None:
    """
    Time how long events took until their jobs were READY: ``event_hooks.time_to_ready``.

    :param since: hive of each, and when its event was received.
    """
    for hive, at in since:
        _time("time_to_ready", at, hive=hive)


def reported(since: Iterable[datetime]) -> None:
    """Time how long reports were owed: ``event_hooks.time_to_report``."""
    for at in since:
        _time("time_to_report", at)


def _count(name: str, count: int, **tags: str) -> None:
    if count and are_on():
        stats.incr(f"event_hooks.{name}", count, tags=_clean(tags))


def _time(name: str, since: datetime, **tags: str) -> None:
    if are_on():
        stats.timing(f"event_hooks.{name}", max(datetime.now(UTC) - since, timedelta(0)), tags=_clean(tags))


def gauge(name: str, value: float, **tags: str) -> None:
    if are_on():
        stats.gauge(f"event_hooks.{name}", value, tags=_clean(tags))


def _clean(tags: Mapping[str, str]) -> dict[str, str]:
    """Leave nothing in a value that would end it on the wire."""
    return {name: stats.normalize_name_for_stats(value, log_warning=False) for name, value in tags.items()}
