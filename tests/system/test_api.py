"""Events submitted by the event API, and the runs that they start."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_requests
from event_hooks.ledger.records import EventRequest, NewEvent, event_key
from tests.support.system import WAIT_SECONDS, System
from tools.runs import DAG_PATH


def build_event(genome: str, **fields: Any) -> dict[str, Any]:
    """Return an event with an event_id."""
    return {"type": "new_genebuild", "genome": genome, "event_id": uuid4().hex, **fields}


def submit(system: System, body: dict[str, Any], status: int = 201) -> dict[str, Any]:
    """Submit an event, and return the answer."""
    answer = system.api("POST", "/jobs", json=body)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def wait_finished(system: System, event_id: int, seconds: float = WAIT_SECONDS) -> str:
    """Wait until an event has finished, and return its state."""
    load = lambda: system.api("GET", f"/events/{event_id}").json()  # noqa: E731
    system.runs.wait_until(lambda: load()["is_finished"], seconds, lambda: str(load()))
    return str(load()["state"])


@pytest.mark.alone  # an event of another test in the same half second would share the run
def test_events_of_a_burst_share_a_run_and_duplicates_create_no_second_job(
    system: System, genome: str
) -> None:
    events = [build_event(f"{genome}_{index}", comment="from the archive") for index in range(20)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda sent: submit(system, sent), events))
    assert {wait_finished(system, answer["id"]) for answer in answers} == {"complete"}
    runs = {answer["run_id"] for answer in answers}
    assert len(runs) <= 3  # a slow machine may need up to three batches of half a second
    for run_id in runs:
        assert system.runs.wait_finished(run_id, WAIT_SECONDS) == "success"
        assert system.runs.request("GET", f"{DAG_PATH}/dagRuns/{run_id}").json()["note"] == "from the archive"
    jobs = sorted(job_id for run_id in runs for job_id, _ in system.jobs(run_id))
    assert jobs == sorted(answer["job_id"] for answer in answers)
    assert [system.list_routing_keys(sent["genome"]) for sent in events] == [["report.info"]] * len(events)
    for sent, answer in zip(events[:3], answers, strict=False):
        assert submit(system, sent)["job_id"] == answer["job_id"]


def test_a_run_is_started_although_the_api_server_died_before_starting_it(
    system: System, genome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_EVENT_LEDGER", system.airflow.ledger_url)
    body, run_id = build_event(genome), f"api__{uuid4().hex}"
    new_event = NewEvent(event_key("new_genebuild", body["event_id"]), "new_genebuild", genome, body, "api")
    ledger = Ledger()
    accept_requests(
        ledger,
        [EventRequest([new_event], [[("dump_peptide", "hive_test", "event_dump_peptide")]])],
        run_id,
        0,
    )
    ledger.close()
    job_id = submit(system, body)["job_id"]  # the client got no response and retries
    statement = "UPDATE event SET received_at = received_at - interval '1 minute' WHERE genome = :genome"
    system.ledger.execute(text(statement), {"genome": genome})  # the API server requests maintain_ledger
    until_started = lambda: system.runs.request("GET", f"{DAG_PATH}/dagRuns/{run_id}").ok  # noqa: E731
    system.runs.wait_until(until_started, 1.5 * WAIT_SECONDS, lambda: "maintain_ledger started nothing")
    assert system.runs.wait_finished(run_id, WAIT_SECONDS) == "success"
    assert [job for job, _ in system.jobs(run_id)] == [job_id]


def test_a_lookup_change_between_request_and_run_creates_no_second_job(
    system: System, genome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server has accepted the event for another hive than the lookup has now."""
    monkeypatch.setenv("AIRFLOW_CONN_EVENT_LEDGER", system.airflow.ledger_url)
    body, run_id = build_event(genome), f"test_{uuid4().hex}"
    key = event_key("new_genebuild", body["event_id"])
    new_event = NewEvent(key, "new_genebuild", genome, body, "api")
    ledger = Ledger()
    request = EventRequest([new_event], [[("dump_peptide", "hive_idle", "event_dump_dna")]])
    ((accepted,),), _ = accept_requests(ledger, [request], run_id, 0)  # type: ignore[misc] # the answer is not an error
    ledger.close()
    assert system.runs.trigger(body, run_id).ok
    system.wait(lambda: len(system.jobs(run_id, "hive_idle")) == 1)
    system.wait_for_trigger(run_id, "dump_peptide.wait")
    assert system.jobs(run_id) == []
    assert accepted.id


def test_the_documentation_shows_every_route(system: System) -> None:
    assert system.api("GET", "/apidocs").status_code == 200
    document = system.api("GET", "/openapi.json").json()
    assert document["servers"] == [{"url": "/event-hooks"}]
    assert {"/jobs", "/plan", "/events", "/processes", "/jobs/{process}", "/jobs/{process}/{job_id}"} <= {
        *document["paths"]
    }
