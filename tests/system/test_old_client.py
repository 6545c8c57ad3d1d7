"""
The requests of the former event app's client, and the responses that it expects.

Its URLs end with a slash. It sends no token, so only a token has to be added to the client.
"""

from __future__ import annotations

import pytest
import requests

from tests.support.lookups import EVENT_LOOKUP
from tests.support.system import WAIT_SECONDS, System
from tests.system.events import practice_event


@pytest.fixture
def session(system: System) -> requests.Session:
    """An HTTP session that sends the token."""
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {system.airflow.log_in()}"
    return session


@pytest.fixture
def uri(system: System) -> str:
    """The base address, with the slash that the old client requires."""
    return f"{system.airflow.url}/event-hooks/"


@pytest.mark.parametrize("slash", ["", "/"], ids=["plain", "slash"])
def test_events_and_processes_are_listed(session: requests.Session, uri: str, slash: str) -> None:
    assert session.get(f"{uri}events{slash}").json() == sorted(EVENT_LOOKUP)
    assert "dump_dna" in session.get(f"{uri}processes{slash}").json()


def test_a_job_is_submitted_retrieved_and_listed(
    session: requests.Session, uri: str, genome: str, system: System
) -> None:
    submitted = session.post(f"{uri}jobs/", json=practice_event(genome, "new_genebuild", fail="entry"))
    assert submitted.status_code == 201
    job_id = submitted.json()["job_id"]
    job = f"{uri}jobs/dump_peptide/{job_id}/"
    system.runs.wait_until(lambda: session.get(job).json()["status"] == "failed", WAIT_SECONDS, lambda: job)
    answer = session.get(job).json()
    assert (answer["id"], answer["input"]["event"]["genome"]) == (job_id, genome)
    assert session.get(job, params={"format": "email", "email": "a@b"}).json()["email"] == "a@b"
    assert session.get(job, params={"format": "failures"}).json()[str(job_id)]
    assert job_id in [job["id"] for job in session.get(f"{uri}jobs/dump_peptide/").json()]


def test_a_job_is_deleted(session: requests.Session, uri: str, genome: str) -> None:
    job_id = session.post(f"{uri}jobs/", json=practice_event(genome, "idle")).json()["job_id"]
    answer = session.delete(f"{uri}jobs/dump_idle/{job_id}/")
    assert (answer.status_code, answer.content) == (204, b"")


def test_an_event_that_is_sent_again_is_created_again(
    session: requests.Session, uri: str, genome: str
) -> None:
    event = {**practice_event(genome, "idle"), "event_id": genome}
    first, second = (session.post(f"{uri}jobs/", json=event) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["job_id"] == second.json()["job_id"]


def test_an_unknown_process_or_job_is_a_404_with_its_reason(session: requests.Session, uri: str) -> None:
    for path in ("jobs/dump_rna", "jobs/dump_dna/999999", "jobs/dump_rna/1"):
        answer = session.get(f"{uri}{path}/")
        assert answer.status_code == 404
        assert answer.json()["error"]
