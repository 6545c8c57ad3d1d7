"""Collected events, from ensembl_metadata to the last follow-up event."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from tests.support.system import WAIT_SECONDS, System
from tests.system.events import step
from tests.system.follow_ups import wait_until_finished
from tools.runs import DAG_PATH

# Each test has its own day in ensembl_metadata, after the start_date of collect_events.
HANDOVER = datetime(2026, 3, 1, 12, tzinfo=UTC)
COLLECTION = datetime(2026, 3, 3, 12, tzinfo=UTC)
BACKFILL = datetime(2026, 3, 5, 12, tzinfo=UTC)


def window(noon: datetime) -> dict[str, str]:
    return {"start": noon.isoformat(), "end": (noon + timedelta(minutes=15)).isoformat()}


def test_a_handover_is_collected_and_leads_to_a_follow_up_event(system: System, genome: str) -> None:
    system.metadata.add_event(system.metadata.add_genome(genome), "New handover", created_at=HANDOVER)
    summary = system.collect_events(**window(HANDOVER))
    assert (summary["found"], summary["started"]) == (1, 1)
    first, second = wait_until_finished(system, genome, 2)
    assert (first["type"], first["source"], first["state"]) == (
        "new_handover",
        "ensembl_metadata",
        "complete",
    )
    assert (second["type"], second["source"], second["state"]) == ("new_features", "api", "complete")
    assert [process["process"] for process in second["processes"]] == ["dump_peptide"]
    root = f"{first['run_id']}/0"
    assert second["event"]["follows"] == {
        "correlation_id": root,
        "causation_id": f"{root}/dump_first",
        "hops": 1,
        "chain": ["new_handover", "dump_first"],
    }
    assert second["event"]["assembly"] == "GRCh38"
    system.wait(
        lambda: len(list_event_summaries(system, genome)) == 2, lambda: list_event_summaries(system, genome)
    )
    correlations = {
        report["params"]["event_hooks"]["correlation_id"] for report in system.all_reports(genome)
    }
    assert correlations == {root}
    for event in (first, second):
        page = system.api("GET", event["url"].partition("/event-hooks")[2]).text
        assert "Related events" in page
        assert f"/board/events/{first['id']}" in page
        assert f"/board/events/{second['id']}" in page
    repeated = system.collect_events(**window(HANDOVER), dry_run=True)
    assert (repeated["started"], repeated["duplicates"], repeated["succeeded"]) == (0, 1, 1)


def list_event_summaries(system: System, genome: str) -> list[Any]:
    """Return the reports about the end of a whole event."""
    reports = [report for report in system.all_reports(genome) if step(report) == "event_finished"]
    return [report for report in reports if report["params"]["event_hooks"]["processes"]]


@pytest.mark.alone
def test_a_collection_of_3000_genomes_is_ready_within_a_minute(system: System) -> None:
    system.metadata.add_collection(
        3000, COLLECTION, "bacterium", "new_collection"
    )  # of a hive without a worker
    started = time.monotonic()
    summary = system.collect_events(**window(COLLECTION))
    assert (summary["started"], len(summary["runs"])) == (3000, 6)
    seconds = time.monotonic() - started
    try:
        all_ready = lambda: count_ready_jobs(system) == 3000  # noqa: E731
        system.runs.wait_until(all_ready, 60 - seconds, lambda: describe_state(system, summary["runs"]))
        print(f"started after {seconds:.0f} s, all READY after {time.monotonic() - started:.0f} s")
    finally:
        for run_id in summary["runs"]:
            system.runs.request("PATCH", f"{DAG_PATH}/dagRuns/{run_id}", json={"state": "success"})


def count_ready_jobs(system: System) -> int:
    with system.hives["hive_collection"].connect() as connection:
        return int(connection.execute(text("SELECT COUNT(*) FROM job WHERE status = 'READY'")).scalar_one())


def describe_state(system: System, run_ids: list[str]) -> str:
    states = {run_id: system.runs.load_task_states(run_id) for run_id in run_ids}
    return f"{count_ready_jobs(system)} jobs; {states}; {system.read_task_log(run_ids[0], 'route')[-3000:]}"


def test_a_backfill_starts_each_event_once_and_none_when_repeated(system: System, genome: str) -> None:
    for quarter in range(2):
        created_at = BACKFILL + timedelta(minutes=15 * quarter)
        system.metadata.add_event(system.metadata.add_genome(f"{genome}_{quarter}"), created_at=created_at)
    end = BACKFILL + timedelta(minutes=29)
    assert backfill(system, BACKFILL, end, "none") == 2
    assert backfill(system, BACKFILL, end, "completed", {"reprocess": "failed"}) == 2
    events = wait_until_finished(
        system, genome, 2
    )  # the runs vary: intervals overlap and run at the same time
    assert {event["state"] for event in events} == {"complete"}


def backfill(
    system: System, start: datetime, end: datetime, behavior: str, conf: Mapping[str, Any] | None = None
) -> int:
    """Create a backfill, and return the number of its runs."""
    system.runs.request("PATCH", "/dags/collect_events", json={"is_paused": False})
    body = {
        "dag_id": "collect_events",
        "from_date": start.isoformat(),
        "to_date": end.isoformat(),
        "reprocess_behavior": behavior,
        "dag_run_conf": conf or {},
    }
    assert system.runs.request("POST", "/backfills", json=body).ok
    are_finished = lambda: all(backfill["completed_at"] for backfill in list_backfills(system))  # noqa: E731
    system.runs.wait_until(are_finished, 3 * WAIT_SECONDS, lambda: str(list_backfills(system)))
    path = "/dags/collect_events/dagRuns?limit=100&order_by=-id"
    runs = [
        run
        for run in system.runs.request("GET", path).json()["dag_runs"]
        if run["run_type"] == "backfill" and run["data_interval_start"] >= f"{start:%Y-%m-%d}"
    ]
    assert {run["state"] for run in runs} == {"success"}
    return len(runs)


def list_backfills(system: System) -> list[dict[str, Any]]:
    answer = system.runs.request("GET", "/backfills?dag_id=collect_events")
    backfills: list[dict[str, Any]] = answer.json()["backfills"]
    return backfills
