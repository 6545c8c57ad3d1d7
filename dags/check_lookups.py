"""
Tell what is wrong with the lookup files.

While a file is broken, this DAG cannot be imported, and the import error names file, key and what was
expected; `process_event` goes on with the lookups that were last good.

Trigger it by hand, say after a change of the lookups: for each process it asks the hive whether it answers
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
    """Make the DAG: one check per process, by its name."""

    @task
    def check(process: str) -> None:
        """Ask the process's hive for its analysis; fails with what is missing."""
        from event_hooks.hive.hook import HiveHook

        asked = LOOKUPS.processes[process]
        HiveHook(asked.hive_conn_id).check(asked.analysis)

    for process in LOOKUPS.processes:
        check.override(task_id=process)(process)


check_lookups()
