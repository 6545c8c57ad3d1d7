"""From ensembl_metadata to the last event that follows, and what waits for several."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from sqlalchemy import text

from tests.support.neighbours import IDLE
from tests.support.practice_metadata import PracticeMetadata
from tests.support.running_airflow import LIMIT, System
from tools.runs import DAG

DAYS = count()


@pytest.fixture
def metadata(practice_metadata: tuple[PracticeMetadata, str]) -> PracticeMetadata:
    return practice_metadata[0]


@pytest.fixture
def noon() -> datetime:
    """A moment of this test's own."""
    return datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(days=2 * next(DAYS))


def window(noon: datetime) -> dict[str, str]:
    return {"start": noon.isoformat(), "end": (noon + timedelta(minutes=15)).isoformat()}


def events_of(system: System, genome: str) -> list[dict[str, Any]]:
    """Give the events of a genome, the oldest first, as the event API has them."""
    page = system.api("GET", f"/board?genome={genome}").text
    ids = sorted({int(part.split('"')[0]) for part in page.split("/board/events/")[1:]})
    return [system.api("GET", f"/events/{event_id}").json() for event_id in ids]


def until_over(system: System, genome: str, how_many: int) -> list[dict[str, Any]]:
    is_so = lambda: [one["is_over"] for one in events_of(system, genome)] == [True] * how_many  # noqa: E731
    system.runs.until(is_so, 2 * LIMIT, lambda: str(events_of(system, genome)))
    return events_of(system, genome)


def test_the_whole_loop(system: System, metadata: PracticeMetadata, genome: str, noon: datetime) -> None:
    metadata.event(metadata.genome(genome), "New handover", at=noon)
    summary = system.collect(**window(noon))
    assert (summary["found"], summary["handed_over"]) == (1, 1)
    first, second = until_over(system, genome, 2)
    assert (first["type"], first["source"], first["state"]) == (
        "new_handover",
        "ensembl_metadata",
        "complete",
    )
    assert (second["type"], second["source"], second["state"]) == ("new_features", "api", "complete")
    assert [one["process"] for one in second["processes"]] == ["dump_peptide"]
    root = f"{first['run_id']}/0"
    assert second["event"]["follows"] == {
        "correlation_id": root,
        "causation_id": f"{root}/dump_first",
        "hops": 1,
        "chain": ["new_handover", "dump_first"],
    }
    assert second["event"]["assembly"] == "GRCh38"
    system.runs.until(
        lambda: len(finished(system, genome)) == 2, LIMIT, lambda: str(finished(system, genome))
    )
    told = {report["params"]["event_hooks"]["correlation_id"] for report in system.all_reports(genome)}
    assert told == {root}
    for one in (first, second):
        page = system.api("GET", one["url"].partition("/event-hooks")[2]).text
        assert "What follows from what" in page
        assert f"/board/events/{first['id']}" in page
        assert f"/board/events/{second['id']}" in page
    again = system.collect(**window(noon), dry_run=True)
    assert (again["handed_over"], again["known"], again["succeeded"]) == (0, 1, 1)


def finished(system: System, genome: str) -> list[Any]:
    return [
        report
        for report in system.all_reports(genome)
        if report["params"]["event_hooks"]["step"] == "finished"
        and report["params"]["event_hooks"]["processes"]
    ]


def test_a_job_may_return_events_and_what_cannot_be_handed_on_is_told(system: System, genome: str) -> None:
    returned = '{"files": 3, "events": [{"type": "new_features"}, {"type": "unheard_of"}, {"genome": "x"}]}'
    event = {"type": "new_genebuild", "genome": genome, "practice": {"result": returned}}
    run_id = system.start(event)
    assert system.runs.until_over(run_id, LIMIT) == "success"
    first, second = until_over(system, genome, 2)
    assert second["event"]["follows"]["causation_id"] == f"{run_id}/0/dump_peptide"
    system.runs.until(
        lambda: len(refusals(system, genome)) == 2, LIMIT, lambda: str(refusals(system, genome))
    )
    told = " ".join(report["message"] for report in refusals(system, genome))
    assert "events[2].type: expected a string that is not empty, not nothing" in told
    assert "404" in told
    assert "not 'unheard_of'" in told
    page = system.api("GET", first["url"].partition("/event-hooks")[2]).text
    assert "Events that follow, and are not handed on" in page


def refusals(system: System, genome: str) -> list[dict[str, Any]]:
    reports = system.all_reports(genome, "email_report")
    return [one for one in reports if one["params"]["event_hooks"]["step"] == "not handed on"]


def test_clearing_a_success_hands_nothing_on_twice(system: System, genome: str) -> None:
    run_id = system.start({"type": "new_handover", "genome": genome})
    assert system.runs.until_over(run_id, LIMIT) == "success"
    until_over(system, genome, 2)
    system.clear(run_id, "dump_first.wait")
    system.runs.until(lambda: system.runs.state(run_id) != "success", LIMIT, lambda: "not cleared")
    assert system.runs.until_over(run_id, LIMIT) == "success"
    assert len(events_of(system, genome)) == 2


def test_a_process_waits_for_all_that_it_needs(system: System, genome: str) -> None:
    first = system.start({"type": "new_xrefs", "genome": genome, "assembly": "GRCh38", "n": 1})
    assert system.runs.until_over(first, LIMIT) == "success"
    assert len(events_of(system, genome)) == 1
    assert "dump_joined" in system.api("GET", f"/board?genome={genome}").text
    system.start({"type": "new_variation", "genome": genome, "assembly": "GRCh38", "n": 2})
    *_, made = until_over(system, genome, 3)
    assert (made["source"], made["state"]) == ("joined", "complete")
    assert [one["process"] for one in made["processes"]] == ["dump_joined"]
    assert [one["n"] for one in made["event"]["joined"]["events"]] == [1, 2]
    (job_id,) = (one["job"] for one in made["processes"])
    job = system.api("GET", f"/jobs/dump_joined/{job_id}").json()
    assert [one["n"] for one in job["input"]["event"]["joined"]["events"]] == [1, 2]


def test_what_is_awaited_in_vain_is_told(system: System, genome: str) -> None:
    run_id = system.start({"type": "new_early", "genome": genome})
    assert system.runs.until_over(run_id, LIMIT) == "success"
    system.runs.until(
        lambda: (
            "new_late missing" in system.api("GET", f"/board?genome={genome}").text
            or "in vain" in str(warnings(system, genome))
        ),
        LIMIT,
        lambda: "nothing waits",
    )
    time.sleep(2)  # as long as it waits
    system.tend()
    system.runs.until(lambda: bool(warnings(system, genome)), LIMIT, lambda: "no warning")
    (warning,) = warnings(system, genome)
    assert warning["routing_key"] == "report.warn"
    assert '"missing": ["new_late"]' in warning["message"]
    assert "What is awaited" not in system.api("GET", f"/board?genome={genome}").text


def warnings(system: System, genome: str) -> list[dict[str, Any]]:
    return [one for one in system.all_reports(genome) if "awaited in vain" in one["message"]]


def test_what_is_done_once_is_not_done_again_by_another_way_in(system: System, genome: str) -> None:
    event = {"type": "new_release", "genome": genome, "assembly": "GRCh38"}
    first = system.start(event)
    assert system.runs.until_over(first, LIMIT) == "success"
    second = system.start(event)
    assert system.runs.until_over(second, LIMIT) == "success"
    assert (len(system.jobs(first)), len(system.jobs(second))) == (1, 0)
    assert system.runs.task_states(second)["dump_joined.submit"] == "skipped"
    skipped = events_of(system, genome)[-1]
    assert (skipped["state"], skipped["processes"][0]["state"]) == ("complete", "skipped")
    forced = system.start({**event, "force": True, "reason": "new software"})
    assert system.runs.until_over(forced, LIMIT) == "success"
    assert len(system.jobs(forced)) == 1


def test_a_collection_of_3000_genomes_is_ready_within_a_minute(
    system: System, metadata: PracticeMetadata, noon: datetime
) -> None:
    metadata.collection(3000, noon, "bacterium", "idle")  # of a hive that nobody works in
    before, began = jobs_in(system, IDLE), time.monotonic()
    summary = system.collect(**window(noon))
    assert (summary["handed_over"], len(summary["runs"])) == (3000, 6)
    handed_over = time.monotonic() - began
    try:
        is_so = lambda: jobs_in(system, IDLE) == before + 3000  # noqa: E731
        system.runs.until(is_so, 60 - handed_over, lambda: how_far(system, summary["runs"]))
        print(f"handed over after {handed_over:.0f} s, all READY after {time.monotonic() - began:.0f} s")
    finally:
        for run_id in summary["runs"]:
            system.runs.ask("PATCH", f"{DAG}/dagRuns/{run_id}", json={"state": "success"})
        clear_away(system, IDLE)  # other tests let somebody work there


def clear_away(system: System, hive: int) -> None:
    with system.hives[hive].begin() as connection:
        connection.execute(text("UPDATE job SET status = 'DONE' WHERE status = 'READY'"))
        connection.execute(text("UPDATE analysis_stats SET ready_job_count = 0, status = 'ALL_CLAIMED'"))


def how_far(system: System, run_ids: list[str]) -> str:
    states = {run_id: system.runs.task_states(run_id) for run_id in run_ids}
    return f"{jobs_in(system, IDLE)} jobs; {states}; {system.log(run_ids[0], 'route')[-3000:]}"


def jobs_in(system: System, hive: int) -> int:
    with system.hives[hive].connect() as connection:
        return int(connection.execute(text("SELECT COUNT(*) FROM job WHERE status = 'READY'")).scalar_one())


def test_a_backfill_hands_each_event_over_once_and_again_nothing(
    system: System, metadata: PracticeMetadata, genome: str, noon: datetime
) -> None:
    for quarter in range(2):
        metadata.event(metadata.genome(f"{genome}_{quarter}"), at=noon + timedelta(minutes=15 * quarter))
    end = noon + timedelta(minutes=29)
    assert backfill(system, noon, end, "none") == 2
    assert backfill(system, noon, end, "completed", "--dag-run-conf", '{"reprocess": "failed"}') == 2
    events = until_over(system, genome, 2)  # in which runs, is chance: intervals overlap, and run at once
    assert {one["state"] for one in events} == {"complete"}


def backfill(system: System, start: datetime, end: datetime, behavior: str, *more: str) -> int:
    """Backfill, as a person does on the command line; give how many runs it had."""
    system.runs.ask("PATCH", "/dags/collect_events", json={"is_paused": False})
    dates = ["--from-date", start.isoformat(), "--to-date", end.isoformat()]
    system.airflow.run(
        "backfill", "create", "--dag-id", "collect_events", *dates, "--reprocess-behavior", behavior, *more
    )
    is_over = lambda: all(one["completed_at"] for one in backfills(system))  # noqa: E731
    system.runs.until(is_over, 3 * LIMIT, lambda: str(backfills(system)))
    path = "/dags/collect_events/dagRuns?limit=100&order_by=-id"
    runs = system.runs.ask("GET", path).json()["dag_runs"]
    mine = [
        one
        for one in runs
        if one["run_type"] == "backfill" and one["data_interval_start"] >= f"{start:%Y-%m-%d}"
    ]
    assert {one["state"] for one in mine} == {"success"}
    return len(mine)


def backfills(system: System) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = system.runs.ask("GET", "/backfills?dag_id=collect_events").json()[
        "backfills"
    ]
    return found
