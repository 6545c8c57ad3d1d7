"""An event comes in over REST, hive jobs run, reports go out."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.running_airflow import EVENT_LOOKUP, LIMIT, System, event_in
from tools.airflow_services import PROGRAMS
from tools.runs import DAG


def event(genome: str, event_type: str = "new_assembly", **practice: Any) -> dict[str, Any]:
    return {"type": event_type, "genome": genome, "practice": practice}


def facts(report: dict[str, Any]) -> dict[str, Any]:
    """Give what a report's message says after its verdict."""
    found: dict[str, Any] = json.loads(report["message"].partition(": ")[2])
    return found


def test_an_event_that_succeeds(system: System, genome: str) -> None:
    run_id = system.start(event(genome))
    assert system.runs.until_over(run_id, LIMIT) == "success"
    reports = system.reports(genome)
    assert [report["routing_key"] for report in reports] == ["report.info"] * 2
    assert {facts(report)["process"] for report in reports} == {"dump_dna", "dump_peptide"}
    assert all(event_in(report) == event(genome) for report in reports)
    assert all(facts(report)["output"]["genome"] == genome for report in reports)
    assert system.reports(genome, "email_report") == []


@pytest.mark.parametrize(
    "practice",
    [{"fail": "entry"}, {"fail": "child"}, {"fail": "funnel"}, {"pass_on": True, "fail": "child"}],
    ids=str,
)
def test_an_event_whose_job_fails(system: System, genome: str, practice: dict[str, Any]) -> None:
    practice |= {"only": "event_dump_dna", "message": "the disk is full"}
    run_id = system.start(event(genome, **practice))
    assert system.runs.until_over(run_id, LIMIT) == "failed"
    assert system.runs.task_states(run_id)["dump_dna.wait"] == "failed"
    assert system.keys(genome) == ["report.fatal", "report.info"]
    (fatal,) = system.reports(genome, "email_report")
    assert facts(fatal)["process"] == "dump_dna"
    assert "the disk is full" in facts(fatal)["error"]


def test_a_failed_run_is_mailed_once_with_what_to_do(system: System, genome: str) -> None:
    named = f"{genome} {{{{ dag_run.run_id }}}}\nBcc: x"
    run_id = system.start(event(named, fail="entry", only="event_dump_dna", message="<no disk>"))
    assert system.runs.until_over(run_id, LIMIT) == "failed"
    mine = lambda: [mail for mail in system.mails if genome in str(mail["Subject"])]  # noqa: E731
    system.runs.until(lambda: bool(mine()), LIMIT, lambda: "no mail")
    (mail,) = mine()
    shown = f"{genome} {{{{ dag_run.run_id }}}} Bcc: x"
    assert mail["Subject"] == f"[event hooks] dump_dna failed: {shown} (new_assembly)"
    assert (mail["To"], mail["Bcc"]) == ("somebody@localhost, another@localhost", None)
    content = mail.get_body().get_content()  # type: ignore[union-attr]
    assert "&lt;no disk&gt;" in content
    assert "mend the cause, then clear dump_dna.wait of the run with Downstream" in content
    assert f"/dags/process_event/runs/{run_id}" in content


def test_a_job_that_fails_and_then_succeeds_is_a_success(system: System, genome: str) -> None:
    run_id = system.start(event(genome, fail_once="child"))
    assert system.runs.until_over(run_id, LIMIT) == "success"
    assert system.keys(genome) == ["report.info"] * 2


def test_waiting_takes_no_worker_and_ends_with_the_last_job(system: System, genome: str) -> None:
    run_id = system.start(event(genome, "new_genebuild", seconds=2, after_funnel=True))
    is_deferred = lambda: system.runs.task_states(run_id)["dump_peptide.wait"] == "deferred"  # noqa: E731
    system.runs.until(is_deferred, LIMIT, lambda: str(system.runs.task_states(run_id)))
    instance = system.runs.tasks(run_id)["dump_peptide.wait"]
    assert (instance["pid"], instance["queued_when"]) == (None, None)
    assert system.reports(genome) == []
    assert system.runs.until_over(run_id, LIMIT) == "success"
    assert system.runs.tasks(run_id)["dump_peptide.wait"]["pid"] is None
    assert [status for _, status in system.jobs(run_id)] == ["DONE"]
    (report,) = system.reports(genome)
    assert facts(report)["status"] == "complete"


def test_processes_that_do_not_react_are_skipped(
    system: System, genome: str, lookup_files: dict[str, Path]
) -> None:
    run_id = system.start(event(genome, "new_genebuild"))
    assert system.runs.until_over(run_id, LIMIT) == "success"
    states = system.runs.task_states(run_id)
    assert {name for name, state in states.items() if state == "skipped"} == {
        f"{process}.{task}"
        for process in json.loads(lookup_files["process_lookup"].read_text())
        if process != "dump_peptide"
        for task in ("submit", "wait")
    }


def test_each_event_of_a_batch_has_its_own_reports(system: System, genome: str) -> None:
    events = [event(f"{genome}_{n}", kind) for n, kind in enumerate(["new_genebuild", "new_assembly"])]
    events.append(event(f"{genome}_2", "new_genebuild", fail="child"))
    run_id = system.start({"events": events})
    assert system.runs.until_over(run_id, LIMIT) == "failed"
    assert len(system.jobs(run_id)) == 4
    assert system.keys(f"{genome}_0") == ["report.info"]
    assert system.keys(f"{genome}_1") == ["report.info"] * 2
    assert system.keys(f"{genome}_2") == ["report.fatal"]


def test_a_process_of_an_old_lookup_runs_in_its_own_hive(system: System, genome: str) -> None:
    run_id = system.start(event(genome, "old_style"))
    assert system.runs.until_over(run_id, LIMIT) == "success"
    assert [len(system.jobs(run_id, hive)) for hive in (0, 1)] == [1, 1]


def test_a_process_that_cannot_be_submitted_does_not_hold_up_the_others(system: System, genome: str) -> None:
    run_id = system.start(event(genome, "half_wrong"))
    assert system.runs.until_over(run_id, LIMIT) == "failed"
    assert system.keys(genome) == ["report.fatal", "report.info"]
    (fatal,) = system.reports(genome, "email_report")
    assert facts(fatal)["error"] == "hive 'hive_test' refused: it has no analysis 'event_dump_nothing'"


def test_values_that_look_like_code_arrive_as_data(system: System, genome: str) -> None:
    comment = '\\", z => system(q(touch /tmp/p)), y => "  @{[1+1]} {{ ti.task_id }} é 😀'
    conf = {**event(genome, "new_genebuild"), "comment": comment}
    run_id = system.start(conf)
    assert system.runs.until_over(run_id, LIMIT) == "success"
    (report,) = system.reports(genome)
    assert event_in(report) == conf


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        (
            {"type": "new_asembly"},
            "type: expected one of half_wrong, idle, idle_for_long, new_assembly,",
        ),
        ({"genome": "homo_sapiens"}, "type: expected a string that is not empty, not nothing"),
        ({}, "type: expected a string that is not empty, not nothing"),
        ({"type": "new_assembly", "genome": ["x"]}, "genome: expected a string or null, not a list"),
        ({"events": []}, "events: expected a list of at least one event"),
        ({"events": [{"type": "new_assembly"}, {}]}, "events[1].type: expected a string"),
        ({"type": "new_assembly", "note": {"deep": ["#expr(1)expr#"]}}, "note.deep[0]: expected no '#expr('"),
    ],
    ids=str,
)
def test_a_wrong_event_is_refused_when_it_is_triggered(
    system: System, conf: dict[str, Any], reason: str
) -> None:
    answer = system.runs.trigger(conf, "never_made")
    assert (answer.status_code, answer.json()["detail"][: len(reason)]) == (400, reason)
    assert system.runs.ask("GET", f"{DAG}/dagRuns/never_made").status_code == 404


def test_a_stranger_is_not_told_what_is_wrong(system: System) -> None:
    address = f"{system.runs.url}/api/v2/dags/process_event/dagRuns"
    answer = requests.post(address, json={"logical_date": None, "conf": {}}, timeout=10)
    assert answer.status_code == 401
    assert "type" not in answer.json()["detail"]


def test_a_body_that_is_no_json_gets_airflows_own_answer(system: System) -> None:
    assert system.runs.ask("POST", f"{DAG}/dagRuns", data=b"{").status_code == 422


def test_a_wrong_event_that_comes_another_way_is_reported(system: System, genome: str) -> None:
    conf = json.dumps({"genome": genome})
    command = [
        str(PROGRAMS / "airflow"),
        "dags",
        "trigger",
        "process_event",
        "--conf",
        conf,
        "--run-id",
        genome,
    ]
    subprocess.run(command, env=system.airflow.environment, check=True, capture_output=True, timeout=LIMIT)
    assert system.runs.until_over(genome, LIMIT) == "failed"
    (fatal,) = system.reports(genome, "email_report")
    assert fatal["message"] == "Event refused: type: expected a string that is not empty, not nothing"


def test_the_form_offers_types_and_explains_its_fields(system: System) -> None:
    params = system.runs.ask("GET", f"{DAG}/details").json()["params"]
    assert list(params) == ["type", "genome", "event_id", "further_fields", "events"]
    assert params["type"]["schema"]["examples"] == list(EVENT_LOOKUP)
    assert all(param["description"] for param in params.values())


def test_check_lookups_finds_the_process_that_could_not_run(system: System, genome: str) -> None:
    body = {"logical_date": None, "dag_run_id": genome}
    assert system.runs.ask("POST", "/dags/check_lookups/dagRuns", json=body).status_code == 200
    path = f"/dags/check_lookups/dagRuns/{genome}"
    is_over = lambda: system.runs.ask("GET", path).json()["state"] in ("success", "failed")  # noqa: E731
    system.runs.until(is_over, LIMIT, lambda: path)
    found = system.runs.ask("GET", f"{path}/taskInstances").json()["task_instances"]
    assert {instance["task_id"]: instance["state"] for instance in found} == {
        "dump_dna": "success",
        "dump_peptide": "success",
        "dump_old": "success",
        "dump_idle": "success",
        "dump_idle_for_long": "success",
        "dump_first": "success",
        "dump_joined": "success",
        "dump_nothing": "failed",
    }


def test_waiting_leaves_the_triggerer_alive(system: System, genome: str) -> None:
    """A template without map_indexes hangs the triggerer of Airflow 3.3.2: its heart would stop."""
    assert system.runs.until_over(system.start(event(genome, "new_genebuild")), LIMIT) == "success"
    over = datetime.now(UTC)
    heartbeat = lambda: datetime.fromisoformat(  # noqa: E731
        system.runs.ask("GET", "/monitor/health").json()["triggerer"]["latest_triggerer_heartbeat"]
    )
    system.runs.until(lambda: heartbeat() > over, LIMIT, lambda: f"no heartbeat since {heartbeat()}")
