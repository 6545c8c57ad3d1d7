"""The settings of the tests' Airflow."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from tests.support.lookups import lookup_files
from tools.airflow_services import CHECKOUT

USERS = {"admin": "admin", "operator": "user", "viewer": "viewer", "no_role": "", "event_hooks": "user"}
"""``{name: role}``; the user ``no_role`` has none, and ``event_hooks`` submits follow-up events."""

NOTIFIER = {
    "class": "airflow.providers.smtp.notifications.smtp.SmtpNotifier",
    "arguments": {"to": ["operator@localhost", "another@localhost"]},
    "on": ["failed", "stalled", "late"],
}

RECOVERY = {
    "AIRFLOW__EVENT_HOOKS__RETRY_DELAY": "1",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "6",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "6",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "1",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "1",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "10",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
}
"""With these settings Airflow detects ended processes within seconds instead of minutes."""


def environment(folder: Path, smtp_port: int, statsd_port: int) -> dict[str, str]:
    """Return the settings that do not depend on the servers."""
    mail = {
        "conn_type": "smtp",
        "host": "127.0.0.1",
        "port": smtp_port,
        "extra": {"disable_ssl": True, "disable_tls": True, "from_email": "event_hooks@localhost"},
    }
    bundles = [
        {"name": name, "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": kwargs}
        for name, kwargs in (("dags-folder", {}), ("examples", {"path": str(CHECKOUT / "examples")}))
    ]
    return {
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        "AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(mail),
        "AIRFLOW__EVENT_HOOKS__NOTIFIERS": json.dumps([NOTIFIER]),
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(statsd_port),
        **{f"AIRFLOW__EVENT_HOOKS__{name.upper()}": str(file) for name, file in lookup_files(folder).items()},
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(
            f"{name}:{role}" for name, role in USERS.items()
        ),
        "AIRFLOW__EVENT_HOOKS__POLL_INTERVAL": "0.5",
        "AIRFLOW__EVENT_HOOKS__STALL_CHECK_AFTER": "2",
        "AIRFLOW__EVENT_HOOKS__PROGRESS_INTERVAL": "1",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
        **RECOVERY,
    }


TRIGGERER_2 = {"triggerer-2": ["triggerer", "--skip-serve-logs"]}


def default_queue(queue: str) -> str:
    """Return the queue of tasks of other DAGs."""
    return f"{queue}_default"


def celery_environment(queue: str) -> dict[str, str]:
    """Return the settings of the CeleryExecutor."""
    return {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CELERY__BROKER_URL": os.environ["RABBITMQ_URL"],
        "AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS": "event_hooks.runtime.celery.SETTINGS",
        "AIRFLOW__EVENT_HOOKS__TASK_QUEUE": queue,
        "AIRFLOW__OPERATORS__DEFAULT_QUEUE": default_queue(queue),
    }


def celery_services(queue: str) -> dict[str, Sequence[str]]:
    """Return two workers as services of Airflow."""
    queues = f"{queue},{default_queue(queue)}"
    command = ["celery", "worker", "--queues", queues, "--concurrency", "4", "--skip-serve-logs"]
    return {name: [*command, "--celery-hostname", f"{name}@%h"] for name in ("worker-1", "worker-2")}
