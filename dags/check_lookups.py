"""
Check the lookup files and the analyses that they name.

While a lookup file is invalid, this DAG has an import error that names the file, the key and the expected
value; `process_event` continues with the last valid lookups.

Trigger the DAG by hand after a change of the lookups. For each process it checks that the hive answers
and has the analysis.
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
    """Build the DAG: one check per process, with the process's name as task id."""

    @task
    def check(process_name: str) -> None:
        """Fail if the process's hive does not answer or lacks the analysis."""
        from event_hooks.hive.hook import HiveHook

        process = LOOKUPS.processes[process_name]
        HiveHook(process.hive_conn_id).check_analysis(process.analysis)

    for process_name in LOOKUPS.processes:
        check.override(task_id=process_name)(process_name)


check_lookups()
