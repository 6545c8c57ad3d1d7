"""
Counters, timers and gauges of Airflow's own metrics.

Airflow 3.3 has no documented interface for metrics of plugins: ``airflow.stats`` is deprecated and names
``airflow.sdk.observability``, which is missing in the reference of the Task SDK and works only after
``initialize``. Replace this module when the Task SDK exports metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import cache

from airflow.sdk import conf
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils

BACKENDS = ("statsd_on", "statsd_datadog_enabled", "otel_on")
"""Options of ``[metrics]``: each enables one backend."""


@cache
def is_enabled() -> bool:
    """Return whether Airflow has a metrics backend; the first call in a process initializes it."""
    stats.initialize(
        factory=stats_utils.get_stats_factory(),
        export_legacy_names=conf.getboolean("metrics", "legacy_names_on", fallback=False),
    )
    return any(conf.getboolean("metrics", backend, fallback=False) for backend in BACKENDS)


def increment(name: str, count: int, tags: Mapping[str, str]) -> None:
    """Add to a counter; do nothing if metrics are disabled."""
    if is_enabled():
        stats.incr(name, count, tags=_normalize(tags))


def record_duration(name: str, duration: timedelta, tags: Mapping[str, str]) -> None:
    """Record a duration of a timer; do nothing if metrics are disabled."""
    if is_enabled():
        stats.timing(name, duration, tags=_normalize(tags))


def set_gauge(name: str, value: float, tags: Mapping[str, str]) -> None:
    """Set a gauge; do nothing if metrics are disabled."""
    if is_enabled():
        stats.gauge(name, value, tags=_normalize(tags))


def _normalize(tags: Mapping[str, str]) -> dict[str, str]:
    """Replace characters that separate tags in the StatsD protocol."""
    return {name: stats.normalize_name_for_stats(value, log_warning=False) for name, value in tags.items()}
