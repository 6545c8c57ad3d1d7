"""Follow-up events, joins of several events, and processes that run once."""

from __future__ import annotations

import time
from typing import Any

from tests.support.system import WAIT_SECONDS, System
from tests.system.events import practice_event, step
from tests.system.follow_ups import load_events, wait_until_finished


def test_events_in_a_result_are_submitted_and_the_invalid_ones_are_reported(
    system: System, genome: str
) -> None:
    result = '{"files": 3, "events": [{"type": "new_features"}, {"type": "unheard_of"}, {"genome": "x"}]}'
    run_id, state = system.run(practice_event(genome, "new_genebuild", result=result))
    assert state == "success"
    first, second = wait_until_finished(system, genome, 2)
    assert second["event"]["follows"]["causation_id"] == f"{run_id}/0/dump_peptide"
    system.wait(lambda: len(list_rejections(system, genome)) == 2, lambda: list_rejections(system, genome))
    messages = " ".join(report["message"] for report in list_rejections(system, genome))
    assert "events[2].type: expected a string that is not empty, but it is missing" in messages
    assert "404" in messages
    assert "not 'unheard_of'" in messages
    page = system.api("GET", first["url"].partition("/event-hooks")[2]).text
    assert "Unsent follow-up events" in page


def list_rejections(system: System, genome: str) -> list[dict[str, Any]]:
    reports = system.all_reports(genome, "report.fatal")
    return [report for report in reports if step(report) == "follow_up_rejected"]


def test_a_join_runs_its_process_when_all_events_have_arrived(system: System, genome: str) -> None:
    _, state = system.run({"type": "new_xrefs", "genome": genome, "assembly": "GRCh38", "n": 1})
    assert state == "success"
    assert len(load_events(system, genome)) == 1
    assert "dump_joined" in system.api("GET", f"/board?genome={genome}").text
    system.start({"type": "new_variation", "genome": genome, "assembly": "GRCh38", "n": 2})
    *_, joined = wait_until_finished(system, genome, 3)
    assert (joined["source"], joined["state"]) == ("joined", "complete")
    assert [process["process"] for process in joined["processes"]] == ["dump_joined"]
    assert [event["n"] for event in joined["event"]["joined"]["events"]] == [1, 2]
    (job_id,) = (process["job"] for process in joined["processes"])
    job = system.api("GET", f"/jobs/dump_joined/{job_id}").json()
    assert [event["n"] for event in job["input"]["event"]["joined"]["events"]] == [1, 2]


def test_a_join_timeout_is_reported(system: System, genome: str) -> None:
    _, state = system.run({"type": "new_early", "genome": genome})
    assert state == "success"
    board = lambda: system.api("GET", f"/board?genome={genome}").text  # noqa: E731
    system.wait(lambda: "Open joins" in board() or list_warnings(system, genome), lambda: "no open join")
    time.sleep(2)  # the join's timeout
    system.run_maintenance()
    system.wait(lambda: list_warnings(system, genome), lambda: "no warning")
    (warning,) = list_warnings(system, genome)
    assert warning["routing_key"] == "report.warn"
    assert '"missing": ["new_late"]' in warning["message"]
    assert "Open joins" not in board()


def list_warnings(system: System, genome: str) -> list[dict[str, Any]]:
    return [report for report in system.all_reports(genome) if "Join timed out" in report["message"]]


def test_a_process_that_runs_once_is_skipped_the_second_time(system: System, genome: str) -> None:
    event = {"type": "new_release", "genome": genome, "assembly": "GRCh38"}
    first = system.run(event)
    second = system.run(event)
    assert (first[1], second[1]) == ("success", "success")
    assert (len(system.jobs(first[0])), len(system.jobs(second[0]))) == (1, 0)
    assert system.runs.load_task_states(second[0])["dump_joined.submit"] == "skipped"
    skipped = load_events(system, genome)[-1]
    assert (skipped["state"], skipped["processes"][0]["state"]) == ("complete", "skipped")
    forced = system.start({**event, "force": True, "reason": "new software"})
    assert system.runs.wait_finished(forced, WAIT_SECONDS) == "success"
    assert len(system.jobs(forced)) == 1
