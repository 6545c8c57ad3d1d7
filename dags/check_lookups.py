"""
Check the lookup files, the analyses that they name, and the setting `notifiers`.

While a lookup file is invalid, this DAG has an import error that names the file, the key and the expected
value; `process_event` continues with the last valid lookups.

Trigger the DAG by hand after a change of the lookups. For each process it checks that the hive answers
and has the analysis. The task `settings.notifiers` checks that the class of each notifier can be imported and
accepts the arguments.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag, task

from event_hooks import settings
from event_hooks.events import lookups

LOOKUPS = lookups.load(settings.event_lookup(), settings.process_lookup())


@dag(
    schedule=None,
    default_args={
        "owner": "event_hooks",
        "queue": settings.task_queue(),
        "retries": 0,
        "execution_timeout": timedelta(minutes=10),
    },
    is_paused_upon_creation=False,
    tags=["event"],
    doc_md=__doc__,
)
def check_lookups() -> None:
    """Build the DAG: one check per process, with the process's name as task id, and one of the notifiers."""

    @task
    def check(process_name: str) -> None:
        """Fail if the process's hive does not answer or lacks the analysis."""
        from event_hooks.hive.hook import HiveHook

        process = LOOKUPS.processes[process_name]
        HiveHook(process.hive_conn_id).check_analysis(process.analysis)

    for process_name in LOOKUPS.processes:
        check.override(task_id=process_name)(process_name)

    @task(task_id="settings.notifiers")  # no process has a dot in its name
    def check_settings() -> None:
        """Fail if the class of a notifier cannot be imported, or rejects the arguments."""
        from event_hooks.notifications.notifiers import check_notifiers

        for error in check_notifiers():
            raise error

    if settings.notifiers():
        check_settings()


check_lookups()
