"""
React to each completed process `dump_peptide` of an event.

Copy this file to your DAGs folder. A run starts after event hooks has recorded the success of a job. Several
events can share a run, so the task handles a list.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import Asset, dag, task

DUMP_PEPTIDE = Asset("process/dump_peptide")

log = logging.getLogger(__name__)


@dag(schedule=[DUMP_PEPTIDE], catchup=False, tags=["event"], doc_md=__doc__)
def react_to_process() -> None:
    """Build the DAG."""

    @task(doc_md="Handle the events of this run.")
    def handle_dumps(triggering_asset_events: Any = None) -> list[dict[str, Any]]:
        """Log and return the genome, event, run and job of each asset event."""
        dumps = [asset_event.extra for asset_event in triggering_asset_events[DUMP_PEPTIDE]]
        for dump in dumps:
            log.info(
                "Dump of %s: event %s (%s), run %s, job %s of %s",
                dump["genome"],
                dump["event"],
                dump["event_id"],
                dump["run_id"],
                dump["job_id"],
                dump["hive"],
            )
        return dumps

    handle_dumps()


react_to_process()
