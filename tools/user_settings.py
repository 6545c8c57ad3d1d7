"""
The settings that the user of ``make up`` has in the environment.

``.stack/env`` exports the stack's own connections under the same names as a user's. A shell that has read
the file may start another checkout, or this one after its ports have changed. A connection from such a file
is not a setting of the user. The file therefore lists digests of the stack's own settings.
"""

import hashlib
from collections.abc import Mapping

SIZES = (
    "AIRFLOW__API__WORKERS",
    "AIRFLOW__CORE__PARALLELISM",
    "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME",
)
"""Settings of Airflow that depend on the size of the machine; the stack has values for two cores."""

PREFIXES = ("AIRFLOW__EVENT_HOOKS__", "AIRFLOW_CONN_")
OLD_NAMES = (
    "EVENT_LOOKUP",
    "EVENT_LOOKUP_FILE",
    "PROCESS_LOOKUP",
    "PROCESS_LOOKUP_FILE",
    "REPORT_SERVER",
    "REPORT_EXCHANGE",
    "REPORT_EXCHANGE_TYPE",
)
"""Variables of the old event app. ``EVENT_URI`` is excluded: in ``.stack/env`` it is the client's address."""

DIGESTS = "EVENT_HOOKS_STACK_DIGESTS"


def is_user_setting(name: str) -> bool:
    """Return whether a variable of this name is a setting of event hooks or a connection, or in ``SIZES``."""
    return name.startswith(PREFIXES) or name in OLD_NAMES or name in SIZES


def select_user_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of an environment, without those that come from a ``.stack/env``."""
    stack_digests = environment.get(DIGESTS, "").split()
    return {
        name: value
        for name, value in environment.items()
        if is_user_setting(name) and value and _digest(name, value) not in stack_digests
    }


def is_shell_name(name: str) -> bool:
    """Return whether a shell can export the name; Airflow also accepts ``AIRFLOW_CONN_MY-HIVE``."""
    return name.isascii() and name.isidentifier()


def build_digests(stack_settings: Mapping[str, str]) -> str:
    """Return the value of the variable ``DIGESTS`` for the settings that the stack generates."""
    return " ".join(_digest(name, value) for name, value in stack_settings.items() if is_user_setting(name))


def _digest(name: str, value: str) -> str:
    return hashlib.sha256(f"{name}={value}".encode()).hexdigest()[:16]
