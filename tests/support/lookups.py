"""The lookup files of the tests' Airflow, and the hives that they name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class HivePlan:
    """
    One hive of the tests' Airflow.

    :param password: of Airflow's connection; the tests search logs, reports and databases for it.
    :param has_worker: whether a worker does the jobs as soon as they are submitted.
    """

    password: str
    has_worker: bool = False


HIVES: Mapping[str, HivePlan] = {
    "hive_test": HivePlan("secret_of_one_hive", has_worker=True),
    "hive_old": HivePlan("secret_of_the_other", has_worker=True),
    "hive_idle": HivePlan("secret_of_the_idle"),
    "hive_manual": HivePlan("secret_of_the_manual"),
    "hive_collection": HivePlan("secret_of_the_collection"),
    "hive_moved": HivePlan("secret_of_the_moved"),
    "hive_change_1": HivePlan("secret_of_change_1"),
    "hive_change_2": HivePlan("secret_of_change_2"),
}
"""
``{connection id: hive}``.

``hive_old`` has no Airflow connection: its URL is in the process lookup. No test does a job in ``hive_idle``.
The tests of the group ``manual`` do the jobs of ``hive_manual`` and ``hive_moved`` themselves. The test of
random changes creates ``hive_change_1`` and ``hive_change_2`` again, and does their jobs.
"""

GUIHIVE = "http://guihive.invalid/?hive=idle"
"""The guiHIVE address of the idle hive."""

JOIN = {
    "process": "dump_joined",
    "after": ["new_xrefs", "new_variation"],
    "within": "1h",
    "then": "run",
    "once_per": ["genome", "assembly"],
}

LATE_JOIN = {"process": "dump_first", "after": ["new_early", "new_late"], "within": "2s", "then": "alert"}

EVENT_LOOKUP = {
    "new_assembly": ["dump_dna", "dump_peptide"],
    "new_genebuild": ["dump_peptide"],
    "old_style": ["dump_old", "dump_dna"],
    "old_type": ["dump_peptide"],
    "half_wrong": ["dump_nothing", "dump_dna"],
    "idle": ["dump_idle"],
    "idle_for_long": ["dump_idle_for_long"],
    "manual": ["dump_manual"],
    "new_handover": ["dump_first"],
    "new_features": ["dump_peptide"],
    "new_xrefs": [JOIN],
    "new_variation": [],
    "new_early": [LATE_JOIN],
    "new_late": [LATE_JOIN],
    "new_release": [{"process": "dump_joined", "once_per": ["genome", "assembly"]}],
    "new_collection": ["dump_collection"],
    "moving": ["dump_moving"],
    "growing": [],
    "changing_1": ["dump_changing_1"],
    "changing_2": ["dump_changing_1", "dump_changing_2"],
}


def process_lookup(old_hive_url: str) -> dict[str, dict[str, Any]]:
    """
    Return processes with a connection id, with a URL, and with an analysis that does not exist.

    :param old_hive_url: of ``hive_old``, with user and password.
    """
    return {
        "dump_dna": {"analysis": "event_dump_dna", "hive_conn_id": "hive_test"},
        "dump_peptide": {"analysis": "event_dump_peptide", "hive_conn_id": "hive_test"},
        "dump_old": {"analysis": "event_dump_dna", "hive_uri": old_hive_url},
        "dump_nothing": {"analysis": "event_dump_nothing", "hive_conn_id": "hive_test"},
        "dump_idle": {
            "analysis": "event_dump_dna",
            "hive_conn_id": "hive_idle",
            "guihive": GUIHIVE,
            "deadline": 3600,
        },
        "dump_idle_for_long": {
            "analysis": "event_dump_dna",
            "hive_conn_id": "hive_idle",
            "ready_timeout": 1,
            "job_timeout": 8,
        },
        "dump_manual": {"analysis": "event_dump_dna", "hive_conn_id": "hive_manual"},
        "dump_moving": {"analysis": "event_dump_dna", "hive_conn_id": "hive_manual"},
        "dump_moved": {"analysis": "event_dump_dna", "hive_conn_id": "hive_moved"},
        "dump_collection": {"analysis": "event_dump_dna", "hive_conn_id": "hive_collection"},
        "dump_changing_1": {"analysis": "event_dump_dna", "hive_conn_id": "hive_change_1"},
        "dump_changing_2": {"analysis": "event_dump_peptide", "hive_conn_id": "hive_change_2"},
        "dump_first": {
            "analysis": "event_dump_dna",
            "hive_conn_id": "hive_test",
            "pool": "hive_test",
            "emits": ["new_features"],
        },
        "dump_joined": {"analysis": "event_dump_dna", "hive_conn_id": "hive_test"},
    }


def lookup_files(folder: Path) -> dict[str, Path]:
    """Return both files of a folder by the names of their settings."""
    return {name: folder / f"{name}.json" for name in ("event_lookup", "process_lookup")}


def write_lookups(folder: Path, old_hive_url: str) -> None:
    """Write both files into a folder."""
    files = lookup_files(folder)
    files["event_lookup"].write_text(json.dumps(EVENT_LOOKUP))
    files["process_lookup"].write_text(json.dumps(process_lookup(old_hive_url)))
