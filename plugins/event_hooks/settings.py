"""
Every setting: where it comes from, and its default.

A setting ``name`` is looked for as ``[event_hooks] name`` in Airflow's configuration (so also as
``AIRFLOW__EVENT_HOOKS__NAME``), then under the environment variables of the Ensembl event app that this
project succeeds, then it has its default. Addresses and passwords are Airflow connections.
"""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk.configuration import conf

LOOKUPS = Path(__file__).resolve().parents[2] / "lookups"
"""The lookup files of this project."""

DAG_ID = "process_event"

_LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")


def event_lookup() -> Path:
    """Give the file that names the processes of each event type; default ``lookups/event_lookup.json``."""
    return Path(_setting("event_lookup", LOOKUPS / "event_lookup.json", "EVENT_LOOKUP", "EVENT_LOOKUP_FILE"))


def process_lookup() -> Path:
    """Give the file that names analysis and hive of each process; default ``lookups/process_lookup.json``."""
    return Path(
        _setting("process_lookup", LOOKUPS / "process_lookup.json", "PROCESS_LOOKUP", "PROCESS_LOOKUP_FILE")
    )


def lookup_cache_dir() -> Path:
    """Give the folder of the lookups that were last good here; default ``$AIRFLOW_HOME/event_hooks``."""
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
    return Path(_setting("lookup_cache_dir", home / "event_hooks"))


def poll_interval() -> float:
    """Give the seconds between two looks at a hive while a job is young; default 2."""
    return _number("poll_interval", 2)


def max_poll_interval() -> float:
    """Give the seconds between two looks at a hive once its jobs are old; default 8."""
    return max(_number("max_poll_interval", 8), poll_interval())


def ready_timeout() -> float:
    """Give the seconds that a job may be READY before people are told; default 1 h, or the process's own."""
    return _number("ready_timeout", 3600)


def stall_check_after() -> float:
    """Give the seconds without a change after which a hive is asked what holds a job up; default 300."""
    return _number("stall_check_after", 300)


def job_timeout() -> float:
    """Give the seconds that a job with its tree may take; default 7 days, or the process's own."""
    return _number("job_timeout", 7 * 24 * 3600)


def hive_timeout() -> float:
    """Give the seconds that a hive may take to connect, and to answer one statement; default 30."""
    return _number("hive_timeout", 30)


def retry_delay() -> float:
    """Give the seconds before a task's first retry; each further delay is longer; default 10."""
    return _number("retry_delay", 10)


def task_queue() -> str:
    """Give the queue in which tasks wait for a Celery worker; default ``[operators] default_queue``."""
    return _setting("task_queue", conf.get("operators", "default_queue", fallback="default"))


def max_events() -> int:
    """Give how many events one run may carry; default 10,000."""
    return int(_number("max_events", 10_000))


def report_server() -> str | None:
    """Give the ``amqp://`` URI that is used instead of the connection ``rabbitmq_reports``; default none."""
    return _setting("report_server", "", "REPORT_SERVER") or None


def report_exchange() -> str:
    """Give the exchange that reports go to; default ``report_exchange``."""
    return _setting("report_exchange", "report_exchange", "REPORT_EXCHANGE")


def report_exchange_type() -> str:
    """Give the type of that exchange; default ``topic``, which all known consumers expect."""
    return _setting("report_exchange_type", "topic", "REPORT_EXCHANGE_TYPE")


def report_unroutable() -> bool:
    """Give whether a report that no queue takes is an error (``error``, the default) or not (``accept``)."""
    word = _setting("report_unroutable", "error").lower()
    if word not in ("error", "accept"):
        raise ValueError(f"[event_hooks] report_unroutable: expected error or accept, not {word!r}")
    return word == "error"


def report_timeout() -> float:
    """Give the seconds that the broker may take for each of its answers; default 30."""
    return _number("report_timeout", 30)


def report_level() -> str:
    """Give the least important type of report that is sent, from DEBUG to FATAL; default INFO."""
    level = _setting("report_level", "INFO").upper()
    if level not in _LEVELS:
        raise ValueError(f"[event_hooks] report_level: expected one of {', '.join(_LEVELS)}, not {level!r}")
    return level


def progress_interval() -> float:
    """Give the seconds between two reports of progress of one process in one run; default 60."""
    return _number("progress_interval", 60)


def failure_mail_to() -> list[str]:
    """Give the mail addresses, separated by commas, that are told of each failed run; default none."""
    return [address.strip() for address in _setting("failure_mail_to", "").split(",") if address.strip()]


def metadata_timeout() -> float:
    """Give the seconds that ensembl_metadata may take to connect, and to answer; default 120."""
    return _number("metadata_timeout", 120)


def collect_schedule() -> str:
    """Give when events are collected, as a cron expression in UTC; default every 15 minutes."""
    return _setting("collect_schedule", "*/15 * * * *")


def collect_overlap() -> float:
    """Give the seconds before its window that a collection looks at again; default 6 h."""
    return _number("collect_overlap", 6 * 3600)


def collect_batch_size() -> int:
    """Give how many collected events one run gets; default 500."""
    return int(min(_number("collect_batch_size", 500), max_events()))


def event_uri() -> str | None:
    """Give the address of the event server for events that follow; default the connection's, or our own."""
    return _setting("event_uri", "", "EVENT_URI") or None


def airflow_uri() -> str:
    """Give the address of this Airflow: ``[api] base_url``."""
    return str(conf.get("api", "base_url", fallback=None) or "http://localhost:8080")


def event_server_timeout() -> float:
    """Give the seconds that the event server may take to connect, and to answer; default 30."""
    return _number("event_server_timeout", 30)


def ledger_timeout() -> float:
    """Give the seconds that the ledger may take to connect, and to answer one statement; default 10."""
    return _number("ledger_timeout", 10)


def ledger_retention_days() -> float:
    """Give the days after which the ledger forgets an event, with its outcomes and reports; default 400."""
    return _number("ledger_retention_days", 400)


def max_body_bytes() -> int:
    """Give the bytes that the body of a request to ``/event-hooks`` may have; default 1 MiB."""
    return int(_number("max_body_bytes", 2**20))


def write_through() -> bool:
    """Give whether the API server itself puts jobs into their hives (``yes``, the default); else the run."""
    word = _setting("write_through", "yes").lower()
    if word not in ("yes", "no", "true", "false"):
        raise ValueError(f"[event_hooks] write_through: expected yes or no, not {word!r}")
    return word in ("yes", "true")


def write_through_timeout() -> float:
    """Give the seconds that a hive may take before an event is answered without its job ids; default 2."""
    return _number("write_through_timeout", 2)


def view_timeout() -> float:
    """Give the seconds that a hive may take to show a job; default 10."""
    return _number("view_timeout", 10)


def _setting(name: str, default: object, *variables: str) -> str:
    if value := conf.get("event_hooks", name, fallback=None):
        return str(value)
    return next((os.environ[variable] for variable in variables if os.environ.get(variable)), str(default))


def _number(name: str, default: float) -> float:
    text = _setting(name, default)
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        raise ValueError(f"[event_hooks] {name}: expected a number above 0, not {text!r}")
    return number
