"""
What the client of the former event app asked for, and what it expected.

It knew no token: that is all it has to be given.
"""

from __future__ import annotations

import pytest
import requests

from tests.support.running_airflow import EVENT_LOOKUP, LIMIT, System
from tests.system.test_process_event import event


@pytest.fixture(params=["", "/"], ids=["plain", "slash"])
def slash(request: pytest.FixtureRequest) -> str:
    """What stands at the end of each address."""
    return str(request.param)


@pytest.fixture
def session(system: System) -> requests.Session:
    """Sends the token, and sends JSON."""
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {system.airflow.token()}"
    return session


@pytest.fixture
def uri(system: System) -> str:
    """The base address, with the slash that the old client wanted."""
    return f"{system.airflow.url}/event-hooks/"


def test_the_lists(session: requests.Session, uri: str, slash: str) -> None:
    assert session.get(f"{uri}events{slash}").json() == sorted(EVENT_LOOKUP)
    assert "dump_dna" in session.get(f"{uri}processes{slash}").json()


def test_a_job_from_its_beginning_to_its_end(
    session: requests.Session, uri: str, slash: str, genome: str, system: System
) -> None:
    submitted = session.post(f"{uri}jobs{slash}", json=event(genome, "new_genebuild", fail="entry"))
    assert submitted.status_code == 201
    job_id = submitted.json()["job_id"]
    job = f"{uri}jobs/dump_peptide/{job_id}{slash}"
    system.runs.until(lambda: session.get(job).json()["status"] == "failed", LIMIT, lambda: job)
    told = session.get(job).json()
    assert (told["id"], told["input"]["event"]["genome"]) == (job_id, genome)
    assert session.get(job, params={"format": "email", "email": "a@b"}).json()["email"] == "a@b"
    assert session.get(job, params={"format": "failures"}).json()[str(job_id)]
    assert job_id in [one["id"] for one in session.get(f"{uri}jobs/dump_peptide{slash}").json()]


def test_a_job_is_deleted(session: requests.Session, uri: str, slash: str, genome: str) -> None:
    job_id = session.post(f"{uri}jobs{slash}", json=event(genome, "idle")).json()["job_id"]
    answer = session.delete(f"{uri}jobs/dump_idle/{job_id}{slash}")
    assert (answer.status_code, answer.json()["id"], answer.json()["process"]) == (200, job_id, "dump_idle")


def test_what_is_not_known_is_a_404_with_its_reason(session: requests.Session, uri: str, slash: str) -> None:
    for path in ("jobs/dump_rna", "jobs/dump_dna/999999", "jobs/dump_rna/1"):
        answer = session.get(f"{uri}{path}{slash}")
        assert answer.status_code == 404
        assert answer.json()["error"]
