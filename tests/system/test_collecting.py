"""From events in ensembl_metadata to the last follow-up event."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from tests.support.system import LIMIT, System
from tests.system.events import step
from tests.system.follow_ups import until_finished
from tools.runs import DAG

# Each test has a day of its own in ensembl_metadata, after the start_date of collect_events
HANDOVER = datetime(2026, 3, 1, 12, tzinfo=UTC)
COLLECTION = datetime(2026, 3, 3, 12, tzinfo=UTC)
BACKFILL = datetime(2026, 3, 5, 12, tzinfo=UTC)


def window(noon: datetime) -> dict[str, str]:
    return {"start": noon.isoformat(), "end": (noon + timedelta(minutes=15)).isoformat()}


def test_a_handover_is_collected_and_leads_to_a_follow_up_event(system: System, genome: str) -> None:
    system.metadata.event(system.metadata.genome(genome), "New handover", at=HANDOVER)
    summary = system.collect(**window(HANDOVER))
    assert (summary["found"], summary["handed_over"]) == (1, 1)
    first, second = until_finished(system, genome, 2)
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
    system.wait(lambda: len(sums(system, genome)) == 2, lambda: sums(system, genome))
    correlations = {
        report["params"]["event_hooks"]["correlation_id"] for report in system.all_reports(genome)
    }
    assert correlations == {root}
    for event in (first, second):
        page = system.api("GET", event["url"].partition("/event-hooks")[2]).text
        assert "What follows from what" in page
        assert f"/board/events/{first['id']}" in page
        assert f"/board/events/{second['id']}" in page
    again = system.collect(**window(HANDOVER), dry_run=True)
    assert (again["handed_over"], again["known"], again["succeeded"]) == (0, 1, 1)


def sums(system: System, genome: str) -> list[Any]:
    """Return the reports about a whole event."""
    reports = [report for report in system.all_reports(genome) if step(report) == "event_finished"]
    return [report for report in reports if report["params"]["event_hooks"]["processes"]]


@pytest.mark.alone
def test_a_collection_of_3000_genomes_is_ready_within_a_minute(system: System) -> None:
    system.metadata.collection(3000, COLLECTION, "bacterium", "new_collection")  # of a hive without a worker
    started = time.monotonic()
    summary = system.collect(**window(COLLECTION))
    assert (summary["handed_over"], len(summary["runs"])) == (3000, 6)
    handed_over = time.monotonic() - started
    try:
        all_ready = lambda: ready_jobs(system) == 3000  # noqa: E731
        system.runs.until(all_ready, 60 - handed_over, lambda: state_of(system, summary["runs"]))
        print(f"handed over after {handed_over:.0f} s, all READY after {time.monotonic() - started:.0f} s")
    finally:
        for run_id in summary["runs"]:
            system.runs.ask("PATCH", f"{DAG}/dagRuns/{run_id}", json={"state": "success"})


def ready_jobs(system: System) -> int:
    with system.hives["hive_collection"].connect() as connection:
        return int(connection.execute(text("SELECT COUNT(*) FROM job WHERE status = 'READY'")).scalar_one())


def state_of(system: System, run_ids: list[str]) -> str:
    states = {run_id: system.runs.task_states(run_id) for run_id in run_ids}
    return f"{ready_jobs(system)} jobs; {states}; {system.log(run_ids[0], 'route')[-3000:]}"


def test_a_backfill_hands_each_event_over_once_and_nothing_when_repeated(system: System, genome: str) -> None:
    for quarter in range(2):
        at = BACKFILL + timedelta(minutes=15 * quarter)
        system.metadata.event(system.metadata.genome(f"{genome}_{quarter}"), at=at)
    end = BACKFILL + timedelta(minutes=29)
    assert backfill(system, BACKFILL, end, "none") == 2
    assert backfill(system, BACKFILL, end, "completed", "--dag-run-conf", '{"reprocess": "failed"}') == 2
    events = until_finished(system, genome, 2)  # the runs vary: intervals overlap and run at the same time
    assert {event["state"] for event in events} == {"complete"}


def backfill(system: System, start: datetime, end: datetime, behavior: str, *more: str) -> int:
    """Backfill with Airflow's command, and return the number of runs."""
    system.runs.ask("PATCH", "/dags/collect_events", json={"is_paused": False})
    dates = ["--from-date", start.isoformat(), "--to-date", end.isoformat()]
    system.airflow.run(
        "backfill", "create", "--dag-id", "collect_events", *dates, "--reprocess-behavior", behavior, *more
    )
    are_over = lambda: all(backfill["completed_at"] for backfill in backfills(system))  # noqa: E731
    system.runs.until(are_over, 3 * LIMIT, lambda: str(backfills(system)))
    path = "/dags/collect_events/dagRuns?limit=100&order_by=-id"
    runs = [
        run
        for run in system.runs.ask("GET", path).json()["dag_runs"]
        if run["run_type"] == "backfill" and run["data_interval_start"] >= f"{start:%Y-%m-%d}"
    ]
    assert {run["state"] for run in runs} == {"success"}
    return len(runs)


def backfills(system: System) -> list[dict[str, Any]]:
    answer = system.runs.ask("GET", "/backfills?dag_id=collect_events")
    found: list[dict[str, Any]] = answer.json()["backfills"]
    return found
