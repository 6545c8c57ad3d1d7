"""Events that come in over the event API, with everything that runs after its answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_requests
from event_hooks.ledger.processes import store_jobs
from event_hooks.ledger.records import EventRequest, NewEvent, event_key
from tests.support.system import LIMIT, System
from tools.runs import DAG


def event(genome: str, **more: Any) -> dict[str, Any]:
    """Give an event with an event_id."""
    return {"type": "new_genebuild", "genome": genome, "event_id": uuid4().hex, **more}


def posted(system: System, asked: dict[str, Any], status: int = 201) -> dict[str, Any]:
    """Send an event, and give the answer."""
    answer = system.api("POST", "/jobs", json=asked)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def until_over(system: System, event_id: int) -> str:
    """Wait until an event is over, and give its state."""
    how = lambda: system.api("GET", f"/events/{event_id}").json()  # noqa: E731
    system.runs.until(lambda: how()["is_finished"], LIMIT, lambda: str(how()))
    return str(how()["state"])


@pytest.mark.alone  # an event of another test in the same half second would share the run
def test_events_of_a_burst_share_a_run_and_duplicates_are_recognised(system: System, genome: str) -> None:
    events = [event(f"{genome}_{n}", comment="from the archive") for n in range(20)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda one: posted(system, one), events))
    assert {until_over(system, one["id"]) for one in answers} == {"complete"}
    runs = {one["run_id"] for one in answers}
    assert len(runs) <= 3  # as many as half seconds that a slow machine needs
    for run_id in runs:
        assert system.runs.until_over(run_id, LIMIT) == "success"
        assert system.runs.ask("GET", f"{DAG}/dagRuns/{run_id}").json()["note"] == "from the archive"
    jobs = sorted(job_id for run_id in runs for job_id, _ in system.jobs(run_id))
    assert jobs == sorted(one["job_id"] for one in answers)
    assert [system.keys(one["genome"]) for one in events] == [["report.info"]] * len(events)
    for one, answer in zip(events[:3], answers, strict=False):
        assert posted(system, one, 200)["job_id"] == answer["job_id"]


def test_a_run_is_started_although_the_api_server_died_before_starting_it(
    system: System, genome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_EVENT_LEDGER", system.airflow.ledger_url)
    asked, run_id = event(genome), f"api__{uuid4().hex}"
    received = NewEvent(event_key("new_genebuild", asked["event_id"]), "new_genebuild", genome, asked, "api")
    ledger = Ledger()
    accept_requests(
        ledger, [EventRequest([received], [[("dump_peptide", "hive_test", "event_dump_peptide")]])], run_id, 0
    )
    ledger.close()
    job_id = posted(system, asked, 200)["job_id"]  # the sender, who had no answer, asks again
    earlier = "UPDATE event SET received_at = received_at - interval '1 minute' WHERE genome = :genome"
    system.ledger.execute(text(earlier), {"genome": genome})
    system.tend()
    until_started = lambda: system.runs.ask("GET", f"{DAG}/dagRuns/{run_id}").ok  # noqa: E731
    system.runs.until(until_started, 1.5 * LIMIT, lambda: "maintain_ledger started nothing")
    assert system.runs.until_over(run_id, LIMIT) == "success"
    assert [job for job, _ in system.jobs(run_id)] == [job_id]


def test_a_lookup_change_between_request_and_run_creates_no_second_job(
    system: System, genome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server reads a changed lookup at once, and Airflow's DAG some seconds later."""
    monkeypatch.setenv("AIRFLOW_CONN_EVENT_LEDGER", system.airflow.ledger_url)
    asked, run_id = event(genome), f"test_{uuid4().hex}"
    key = event_key("new_genebuild", asked["event_id"])
    received = NewEvent(key, "new_genebuild", genome, asked, "api")
    ledger = Ledger()
    arrival = EventRequest([received], [[("dump_peptide", "hive_idle", "event_dump_dna")]])
    ((entry,),), _ = accept_requests(ledger, [arrival], run_id, 0)  # type: ignore[misc] # it is no refusal
    store_jobs(ledger, {(entry.id, "dump_peptide"): 4711})
    ledger.close()
    assert system.runs.trigger(asked, run_id).ok
    assert system.runs.until_over(run_id, LIMIT) == "failed"
    assert system.jobs(run_id) == []
    assert "in hive 'hive_idle' already, job 4711" in system.log(run_id, "dump_peptide.submit")
    assert system.keys(genome) == ["report.fatal"]


def test_a_run_triggered_over_airflows_own_api_has_the_comment_as_its_note(
    system: System, genome: str
) -> None:
    run_id = system.start(event(genome, comment="by hand"))
    assert system.runs.ask("GET", f"{DAG}/dagRuns/{run_id}").json()["note"] == "by hand"


def test_the_documentation_shows_every_route(system: System) -> None:
    assert system.api("GET", "/apidocs").status_code == 200
    document = system.api("GET", "/openapi.json").json()
    assert document["servers"] == [{"url": "/event-hooks"}]
    assert {"/jobs", "/plan", "/events", "/processes", "/jobs/{process}", "/jobs/{process}/{job_id}"} <= {
        *document["paths"]
    }
