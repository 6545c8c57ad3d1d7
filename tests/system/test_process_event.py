"""
Runs of process_event, from the trigger to the reports.

The runs of all scenarios start at the same time; each test waits for its own run.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.support.lookups import EVENT_LOOKUP, process_lookup
from tests.support.system import WAIT_SECONDS, System, extract_event
from tests.system.events import facts, practice_event, step
from tools.airflow_services import PROGRAMS
from tools.runs import DAG_PATH

COMMENT = '\\", z => system(q(touch /tmp/p)), y => "  @{[1+1]} {{ ti.task_id }} é 😀'
"""Text that Perl, eHive or Jinja would evaluate if it arrived as code."""


def _scenarios(genome: str) -> dict[str, dict[str, Any]]:
    """Return the ``conf`` of each run."""
    fails = {"fail": "child", "only": "event_dump_dna", "message": "the disk is full"}
    return {
        "success": practice_event(f"{genome}_success") | {"comment": COMMENT},
        "failed job": practice_event(f"{genome}_failed_job", **fails),
        "old lookup": practice_event(f"{genome}_old_lookup", "old_style"),
        "no analysis": practice_event(f"{genome}_no_analysis", "half_wrong"),
        "batch": {
            "events": [
                practice_event(f"{genome}_quick", "new_genebuild", seconds=0.1),
                practice_event(f"{genome}_slow", "new_genebuild", seconds=6),
                practice_event(f"{genome}_two_processes"),
                practice_event(f"{genome}_fails", "new_genebuild", fail="child"),
            ]
        },
    }


@dataclass(frozen=True)
class Scenario:
    """A started run, and its event's genome (its prefix, for a batch)."""

    run_id: str
    genome: str
    conf: dict[str, Any]


@pytest.fixture(scope="module")
def scenario(system: System) -> Callable[[str], Scenario]:
    """Returns a run by the name of its scenario."""
    genome = f"genome_{uuid4().hex[:12]}"
    started = {
        name: Scenario(system.start(conf), str(conf.get("genome", genome)), conf)
        for name, conf in _scenarios(genome).items()
    }
    return started.__getitem__


def test_each_event_of_a_batch_is_reported_when_its_own_job_ends(
    system: System, scenario: Callable[[str], Scenario]
) -> None:
    batch = scenario("batch")
    system.wait(lambda: system.list_routing_keys(f"{batch.genome}_quick"), lambda: system.jobs(batch.run_id))
    assert system.runs.load_task_states(batch.run_id)["dump_peptide.wait"] == "deferred"
    assert system.list_routing_keys(f"{batch.genome}_slow") == []
    assert system.runs.wait_finished(batch.run_id, WAIT_SECONDS) == "failed"
    assert len(system.jobs(batch.run_id)) == 5
    assert system.list_routing_keys(f"{batch.genome}_quick") == ["report.info"]
    assert system.list_routing_keys(f"{batch.genome}_slow") == ["report.info"]
    assert system.list_routing_keys(f"{batch.genome}_two_processes") == ["report.info"] * 2
    assert system.list_routing_keys(f"{batch.genome}_fails") == ["report.fatal"]


def test_progress_is_recorded_and_reported(system: System, scenario: Callable[[str], Scenario]) -> None:
    batch = scenario("batch")
    system.runs.wait_finished(batch.run_id, WAIT_SECONDS)
    total = "SELECT max(total) FROM event_process JOIN event ON id = event_id WHERE run_id = :run"
    assert system.ledger_rows(total, run=batch.run_id)[0][0] > 1
    reports = [report for report in system.all_reports(f"{batch.genome}_slow") if step(report) == "progress"]
    assert reports
    assert all('"status": "running"' in report["message"] for report in reports)


def test_each_process_of_a_successful_event_is_reported(
    system: System, scenario: Callable[[str], Scenario]
) -> None:
    success = scenario("success")
    assert system.runs.wait_finished(success.run_id, WAIT_SECONDS) == "success"
    reports = system.reports(success.genome)
    assert [report["routing_key"] for report in reports] == ["report.info"] * 2
    assert {facts(report)["process"] for report in reports} == {"dump_dna", "dump_peptide"}
    assert all(facts(report)["output"]["genome"] == success.genome for report in reports)
    assert [status for _, status in system.jobs(success.run_id)] == ["DONE"] * 2


def test_values_with_code_arrive_as_data(system: System, scenario: Callable[[str], Scenario]) -> None:
    success = scenario("success")
    assert system.runs.wait_finished(success.run_id, WAIT_SECONDS) == "success"
    assert [extract_event(report) for report in system.reports(success.genome)] == [success.conf] * 2


def test_tasks_of_processes_that_do_not_react_are_skipped(
    system: System, scenario: Callable[[str], Scenario]
) -> None:
    success = scenario("success")
    assert system.runs.wait_finished(success.run_id, WAIT_SECONDS) == "success"
    states = system.runs.load_task_states(success.run_id)
    processes = process_lookup("").keys()  # not of the file, which another test may be changing
    skipped = {
        process
        for process in processes
        if states[f"{process}.submit"] == states[f"{process}.wait"] == "skipped"
    }
    assert skipped == processes - {"dump_dna", "dump_peptide"}


def test_both_triggerers_are_alive_after_a_wait(system: System, scenario: Callable[[str], Scenario]) -> None:
    """A template without map_indexes stops the triggerer of Airflow 3.3.2, and so its heartbeat."""
    assert system.runs.wait_finished(scenario("success").run_id, WAIT_SECONDS) == "success"
    end = datetime.now(UTC)
    jobs = {"job_type": "TriggererJob", "is_alive": True}
    heartbeats = lambda: [  # noqa: E731
        datetime.fromisoformat(job["latest_heartbeat"])
        for job in system.runs.request("GET", "/jobs", params=jobs).json()["jobs"]
    ]
    system.wait(lambda: sum(heartbeat > end for heartbeat in heartbeats()) == 2, heartbeats)


def test_the_ledger_has_event_jobs_outcomes_and_reports(
    system: System, scenario: Callable[[str], Scenario]
) -> None:
    success = scenario("success")
    assert system.runs.wait_finished(success.run_id, WAIT_SECONDS) == "success"
    events = "SELECT type, genome, source, position FROM event WHERE run_id = :run"
    assert system.ledger_rows(events, run=success.run_id) == [("new_assembly", success.genome, "manual", 0)]
    processes = (
        "SELECT process, state, job_id FROM event_process JOIN event ON id = event_id"
        " WHERE run_id = :run ORDER BY job_id"
    )
    recorded = system.ledger_rows(processes, run=success.run_id)
    assert [job_id for *_, job_id in recorded] == [job_id for job_id, _ in system.jobs(success.run_id)]
    assert {(process, state) for process, state, _ in recorded} == {
        ("dump_dna", "complete"),
        ("dump_peptide", "complete"),
    }
    sent = "SELECT message_id FROM report WHERE run_id = :run AND sent_at IS NOT NULL"
    # The ledger deletes progress reports once they are sent.
    reports = [report for report in system.all_reports(success.genome) if step(report) != "progress"]
    assert {message_id for (message_id,) in system.ledger_rows(sent, run=success.run_id)} == {
        report["message_id"] for report in reports
    }
    steps = [step(report) for report in reports]
    assert sorted(steps[1:-1]) == ["process_finished", "process_finished", "submitted", "submitted"]
    assert (steps[0], steps[-1]) == ("received", "event_finished")


def test_a_failed_job_fails_the_run_and_is_reported(
    system: System, scenario: Callable[[str], Scenario]
) -> None:
    failed = scenario("failed job")
    assert system.runs.wait_finished(failed.run_id, WAIT_SECONDS) == "failed"
    assert system.runs.load_task_states(failed.run_id)["dump_dna.wait"] == "failed"
    assert system.list_routing_keys(failed.genome) == ["report.fatal", "report.info"]
    (fatal,) = system.reports(failed.genome, "report.fatal")
    assert facts(fatal)["process"] == "dump_dna"
    assert "the disk is full" in facts(fatal)["error"]


def test_a_process_of_an_old_lookup_runs_in_its_own_hive(
    system: System, scenario: Callable[[str], Scenario]
) -> None:
    old = scenario("old lookup")
    assert system.runs.wait_finished(old.run_id, WAIT_SECONDS) == "success"
    assert [len(system.jobs(old.run_id, hive)) for hive in ("hive_test", "hive_old")] == [1, 1]


def test_a_process_that_cannot_be_submitted_does_not_delay_the_others(
    system: System, scenario: Callable[[str], Scenario]
) -> None:
    run = scenario("no analysis")
    assert system.runs.wait_finished(run.run_id, WAIT_SECONDS) == "failed"
    assert system.list_routing_keys(run.genome) == ["report.fatal", "report.info"]
    (fatal,) = system.reports(run.genome, "report.fatal")
    reason = "it has no analysis 'event_dump_nothing'"
    assert facts(fatal)["error"] == f"hive 'hive_test' rejected the request: {reason}"


def test_waiting_uses_no_worker(system: System, genome: str) -> None:
    run_id = system.start(practice_event(genome, "new_genebuild", seconds=1.5, after_funnel=True))
    system.wait_for_task(run_id, "dump_peptide.wait", "deferred")
    task = system.runs.load_tasks(run_id)["dump_peptide.wait"]
    assert (task["pid"], task["queued_when"]) == (None, None)
    assert system.reports(genome) == []
    assert system.runs.wait_finished(run_id, WAIT_SECONDS) == "success"
    assert system.runs.load_tasks(run_id)["dump_peptide.wait"]["pid"] is None
    (report,) = system.reports(genome)
    assert facts(report)["status"] == "complete"


def test_a_failed_process_sends_one_mail_with_the_next_step(system: System, genome: str) -> None:
    name = f"{genome} {{{{ dag_run.run_id }}}}\nBcc: x"
    event = practice_event(name, fail="entry", only="event_dump_dna", message="<no disk>")
    run_id, state = system.run(event)
    assert state == "failed"
    # Usually the run has sent it. It may be in a message with events of other runs, which another task sends.
    system.wait(lambda: system.mails(genome), lambda: "no mail")
    ((mail, content),) = system.mails(genome)
    assert str(mail["Subject"]).startswith("[event hooks] dump_dna failed")
    assert (mail["To"], mail["Bcc"]) == ("operator@localhost, another@localhost", None)
    facts_of_event = content[
        content.index(f"<b>Genome</b>: {genome} {{{{ dag_run.run_id }}}}\n  Bcc: x<br>") :
    ]
    assert "&lt;no disk&gt;" in facts_of_event
    assert "fix the cause, then retry the process (on the event board" in facts_of_event
    page = re.search(r'href="[^"]+/event-hooks/board/events/(\d+)"', facts_of_event)
    assert page
    assert system.api("GET", f"/events/{page[1]}").json()["run_id"] == run_id


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        (
            {"type": "new_asembly"},
            "type: expected one of changing_1, changing_2, growing, half_wrong, idle, idle_for_long,",
        ),
        ({"type": "new_assembly", "note": {"deep": ["#expr(1)expr#"]}}, "note.deep[0]: expected no '#expr('"),
    ],
    ids=["type", "value"],
)
def test_an_invalid_event_is_rejected_when_it_is_triggered(
    system: System, conf: dict[str, Any], reason: str
) -> None:
    answer = system.runs.trigger(conf, "never_made")
    assert (answer.status_code, answer.json()["detail"][: len(reason)]) == (400, reason)
    assert system.runs.request("GET", f"{DAG_PATH}/dagRuns/never_made").status_code == 404


def test_a_body_that_is_too_long_is_rejected(system: System) -> None:
    answer = system.runs.trigger({"type": "new_assembly", "note": "x" * 2**20}, "never_made")
    assert (answer.status_code, answer.json()) == (413, {"detail": "body: expected at most 1048576 bytes"})


def test_a_body_that_is_not_json_gets_the_response_of_airflow(system: System) -> None:
    assert system.runs.request("POST", f"{DAG_PATH}/dagRuns", data=b"{").status_code == 422


def test_an_invalid_event_from_the_command_line_is_reported(system: System, genome: str) -> None:
    command = [str(PROGRAMS / "airflow"), "dags", "trigger", "process_event", "--run-id", genome]
    command += ["--conf", json.dumps({"genome": genome})]
    subprocess.run(
        command, env=system.airflow.environment, check=True, capture_output=True, timeout=WAIT_SECONDS
    )
    assert system.runs.wait_finished(genome, WAIT_SECONDS) == "failed"
    (fatal,) = system.reports(genome, "report.fatal")
    assert fatal["message"] == "Event rejected: type: expected a string that is not empty, but it is missing"


def test_the_form_offers_the_types_of_the_lookup(system: System) -> None:
    params = system.runs.request("GET", f"{DAG_PATH}/details").json()["params"]
    assert params["type"]["schema"]["examples"] == list(EVENT_LOOKUP)
