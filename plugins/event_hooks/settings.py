"""
All settings, each declared once: name, type, default, environment aliases and description.

A setting ``name`` is read from ``[event_hooks] name`` of Airflow's configuration (so also from
``AIRFLOW__EVENT_HOOKS__NAME``), then from its environment aliases, which are the variables of the Ensembl
event app that this project replaces; otherwise its default applies. An empty value counts as not set. Each
call reads the setting again. Addresses and passwords are Airflow connections.

``docs/reference/settings.md`` has a table of all settings, which ``make reference`` writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from airflow.sdk.configuration import conf

from event_hooks import addresses
from event_hooks.notifier_settings import NotifierInvalid, parse_notifiers

T = TypeVar("T")

SECTION = "event_hooks"
LOOKUPS_DIR = Path(__file__).resolve().parents[2] / "lookups"
"""Folder of this project's lookup files."""

DAG_ID = "process_event"

BOARD_PATH = "/event-hooks/board"
"""Path of the event board on Airflow's API server."""

MAX_NUMBER = 1_000_000_000
"""Highest number of a setting: 31 years in seconds, or a gigabyte."""


@dataclass(frozen=True)
class SettingType(Generic[T]):
    """
    A way to read a value.

    :param parse: raises ValueError or KeyError for an invalid text.
    :param expected: names the valid values in error messages.
    """

    parse: Callable[[str], T]
    expected: str
    is_secret: bool = False
    """Whether error messages do not show the value."""


@dataclass(frozen=True)
class Setting(Generic[T]):
    """
    A setting; call it to read its value.

    :param default: as in the configuration file, or a function that reads it from another place.
    :param description: for the documentation, in Markdown.
    :param default_text: the same for the default, where ``default`` is empty or depends on the machine.
    :param adjust: applied to the value, to keep it consistent with another setting.
    """

    name: str
    type: SettingType[T]
    default: str | Callable[[], str]
    description: str
    aliases: tuple[str, ...] = ()
    default_text: str = ""
    adjust: Callable[[T], T] | None = None

    def __call__(self) -> T:
        """
        Return the current value.

        :raises ValueError: the value is invalid; the message names setting, valid values and value.
        """
        text = self._read()
        try:
            value = self.type.parse(text)
        except NotifierInvalid:  # its message names the invalid field
            raise
        except (ValueError, KeyError):
            expected = self.type.expected
            shown = "" if self.type.is_secret else f", not {text!r}"
            raise ValueError(f"[{SECTION}] {self.name}: expected {expected}{shown}") from None
        return self.adjust(value) if self.adjust else value

    def _read(self) -> str:
        if value := conf.get(SECTION, self.name, fallback=None):
            return str(value)
        if value := next(filter(None, map(os.environ.get, self.aliases)), None):
            return value
        return self.default if isinstance(self.default, str) else self.default()


def _choice(values: Mapping[str, T], expected: str) -> SettingType[T]:
    return SettingType(lambda text: values[text.lower()], expected)


def _parse_number(text: str) -> float:
    number = float(text)
    if not 0 < number <= MAX_NUMBER:
        raise ValueError(text)
    return number


def _address(*schemes: str) -> SettingType[str | None]:
    """Return the type of an optional address, which may contain a password."""

    def parse(text: str) -> str | None:
        if text and not (text.lower().startswith(schemes) and addresses.is_unambiguous(text)):
            raise ValueError
        return text or None

    return SettingType(parse, f"an address {' or '.join(schemes)}…; {addresses.ADVICE}", is_secret=True)


def _airflow_home() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()


_LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")

TEXT = SettingType(str, "text")
AMQP_ADDRESS = _address("amqp://", "amqps://")
HTTP_ADDRESS = _address("http://", "https://")
NOTIFIERS = SettingType(parse_notifiers, "a JSON list of notifiers", is_secret=True)
PATH = SettingType(Path, "a path")
NUMBER = SettingType(_parse_number, f"a number above 0, of at most {MAX_NUMBER:,}")
COUNT = SettingType(lambda text: int(_parse_number(text)), f"a number above 0, of at most {MAX_NUMBER:,}")
YES_NO = _choice({"yes": True, "true": True, "no": False, "false": False}, "yes or no")
REPORT_LEVEL = _choice({level.lower(): level for level in _LEVELS}, f"one of {', '.join(_LEVELS)}")
UNROUTABLE = _choice({"error": True, "accept": False}, "error or accept")

event_lookup = Setting(
    "event_lookup",
    PATH,
    str(LOOKUPS_DIR / "event_lookup.json"),
    "file that names the processes of each event type",
    aliases=("EVENT_LOOKUP", "EVENT_LOOKUP_FILE"),
    default_text="`lookups/event_lookup.json`",
)
process_lookup = Setting(
    "process_lookup",
    PATH,
    str(LOOKUPS_DIR / "process_lookup.json"),
    "file that names hive and analysis of each process",
    aliases=("PROCESS_LOOKUP", "PROCESS_LOOKUP_FILE"),
    default_text="`lookups/process_lookup.json`",
)
lookup_cache_dir = Setting(
    "lookup_cache_dir",
    PATH,
    lambda: str(_airflow_home() / "event_hooks"),
    "folder for a copy of the last valid lookups; only its owner can read it, as it contains each `hive_uri`",
    default_text="`$AIRFLOW_HOME/event_hooks`",
)
poll_interval = Setting(
    "poll_interval",
    NUMBER,
    "2",
    "seconds between two polls of a hive while a job is young; one poll serves all waiting tasks",
)
max_poll_interval = Setting(
    "max_poll_interval",
    NUMBER,
    "8",
    "the same for old jobs: a tenth of the time waited, at least `poll_interval` and at most this",
    adjust=lambda seconds: max(seconds, poll_interval()),
)
ready_timeout = Setting(
    "ready_timeout",
    NUMBER,
    "3600",
    "seconds that a job may be READY before it is reported as stalled; the lookup may set it for a process",
)
stall_check_after = Setting(
    "stall_check_after",
    NUMBER,
    "300",
    "seconds without a change of a job tree before its hive is searched for the cause",
)
job_timeout = Setting(
    "job_timeout",
    NUMBER,
    "604800",
    "seconds that a job and its descendants may take; the lookup may set it for a process",
)
hive_timeout = Setting("hive_timeout", NUMBER, "30", "seconds to connect to a hive, and for each statement")
task_queue = Setting(
    "task_queue",
    TEXT,
    lambda: str(conf.get("operators", "default_queue", fallback="default")),
    "Celery queue of the tasks",
    default_text="`[operators] default_queue`",
)
retry_delay = Setting(
    "retry_delay",
    NUMBER,
    "10",
    "seconds before the first retry of a task; each further delay is about twice as long, up to 10 minutes",
)
max_events = Setting("max_events", COUNT, "10000", "events in one run")
write_through = Setting(
    "write_through",
    YES_NO,
    "yes",
    "whether the API server submits jobs to the hives itself; with `no`, for an API server that cannot reach "
    "them, each answer is 202, and the run submits the jobs",
)
write_through_timeout = Setting(
    "write_through_timeout", NUMBER, "2", "seconds that a hive may take before the answer is 202"
)
view_timeout = Setting("view_timeout", NUMBER, "10", "seconds that a hive may take to show a job")
max_body_bytes = Setting(
    "max_body_bytes", COUNT, "1048576", "bytes of a request to `/event-hooks`, or to trigger a run"
)
ledger_timeout = Setting(
    "ledger_timeout", NUMBER, "10", "seconds to connect to the ledger, and for each statement"
)
ledger_pool_size = Setting(
    "ledger_pool_size",
    COUNT,
    "5",
    "connections of one process to the ledger; a further statement waits, for at most `ledger_timeout`",
)
ledger_retention_days = Setting(
    "ledger_retention_days",
    NUMBER,
    "400",
    "days after which an event is pruned from the ledger, with its outcomes and reports",
)
asset_events = Setting(
    "asset_events", YES_NO, "yes", "whether received events and completed processes are asset events"
)
notifiers = Setting(
    "notifiers",
    NOTIFIERS,
    "",
    "Airflow notifiers that are called when a process failed, stalled or is late, as a JSON list",
    default_text="no notifier",
)
progress_interval = Setting(
    "progress_interval", NUMBER, "60", "seconds between two progress reports of one process in one run"
)
report_level = Setting(
    "report_level",
    REPORT_LEVEL,
    "INFO",
    "lowest type of report that is sent: DEBUG, INFO, WARN, ERROR or FATAL",
)
report_server = Setting(
    "report_server",
    AMQP_ADDRESS,
    "",
    "`amqp://user:password@host:5672/%2F`, used instead of the connection",
    aliases=("REPORT_SERVER",),
    default_text="connection `rabbitmq_reports`",
)
report_exchange = Setting(
    "report_exchange", TEXT, "report_exchange", "exchange of all reports", aliases=("REPORT_EXCHANGE",)
)
report_exchange_type = Setting(
    "report_exchange_type",
    TEXT,
    "topic",
    "type with which the exchange is declared; all known consumers expect `topic`",
    aliases=("REPORT_EXCHANGE_TYPE",),
)
report_unroutable = Setting(
    "report_unroutable",
    UNROUTABLE,
    "error",
    "how to treat a report that is routed to no queue: `error` (it stays pending) or `accept`",
)
report_max_bytes = Setting(
    "report_max_bytes",
    COUNT,
    "4194304",
    "bytes of a report; the long values of a larger one are shortened, and its message says so",
)
report_timeout = Setting("report_timeout", NUMBER, "30", "seconds for each answer of the broker")
collect_schedule = Setting(
    "collect_schedule", TEXT, "*/15 * * * *", "when events are collected, as a cron expression in UTC"
)
collect_overlap = Setting(
    "collect_overlap", NUMBER, "21600", "seconds before its window that a collection reads again"
)
collect_batch_size = Setting(
    "collect_batch_size",
    COUNT,
    "500",
    "collected events that share a run; at most `max_events`",
    adjust=lambda events: min(events, max_events()),
)
metadata_timeout = Setting(
    "metadata_timeout", NUMBER, "120", "seconds to connect to ensembl_metadata, and for each statement"
)
event_uri = Setting(
    "event_uri",
    HTTP_ADDRESS,
    "",
    "address of the event server that receives follow-up events; without either, this Airflow's own API",
    aliases=("EVENT_URI",),
    default_text="connection `event_server`",
)
event_server_timeout = Setting(
    "event_server_timeout", NUMBER, "30", "seconds to connect to the event server, and for its answer"
)

SETTINGS: Mapping[str, Setting[Any]] = {
    value.name: value for value in list(globals().values()) if isinstance(value, Setting)
}
"""All settings by name."""

REMOVED = {"failure_mail_to": "it was removed: use the setting notifiers, with the class of a mail notifier"}
"""``{name: next step}`` of settings of earlier versions."""


def find_removed() -> dict[str, str]:
    """Return those of :data:`REMOVED` that are set; they have no effect."""
    return {name: step for name, step in REMOVED.items() if conf.get(SECTION, name, fallback=None)}


def airflow_uri() -> str:
    """Return the address of this Airflow: ``[api] base_url``, or that of a local Airflow."""
    return str(conf.get("api", "base_url", fallback=None) or "http://localhost:8080")
