"""The command event-hooks against the running Airflow."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import jwt
import pytest

from event_hooks.cli.main import main
from event_hooks.client import AsyncEventClient, EventClient, RequestRejected, ServerUnreachable, log_in
from tests.support.lookups import EVENT_LOOKUP
from tests.support.system import WAIT_SECONDS, System
from tests.system.events import practice_event
from tools.airflow_services import PROGRAMS
from tools.ports import find_free_port

FOLLOW_SECONDS = 2 * WAIT_SECONDS
"""Timeout from the request to the last process, during which Airflow starts a run and its tasks."""


class Result(NamedTuple):
    """The exit status and the output of a command."""

    status: int
    stdout: str
    stderr: str


Command = Callable[..., Result]


@pytest.fixture
def environment(system: System) -> Mapping[str, str]:
    """The environment of a user with a token and without a login."""
    return {
        "PATH": os.environ["PATH"],
        "EVENT_URI": f"{system.airflow.url}/event-hooks/",
        "EVENT_HOOKS_TOKEN": system.airflow.log_in(),
    }


@pytest.fixture
def command(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command in this process, with these arguments, standard input and variables."""

    def run(*words: str, piped: str = "", **variables: str) -> Result:
        monkeypatch.setattr(sys, "stdin", io.StringIO(piped))
        for name, value in {**environment, **variables}.items():
            monkeypatch.setenv(name, value)
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                status = main(words)
            except SystemExit as end:
                status = int(str(end.code))
        return Result(status, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def client(environment: Mapping[str, str]) -> EventClient:
    """The client that the command uses."""
    return EventClient(environment["EVENT_URI"], environment["EVENT_HOOKS_TOKEN"])


@pytest.fixture(scope="module")
def idle_event_id(system: System) -> int:
    """The id of an event with a job that is not picked up."""
    answer = system.api("POST", "/jobs", json=practice_event(f"genome_{uuid4().hex[:12]}", "idle"))
    return int(answer.json()["id"])


def test_following_a_success_ends_with_0(environment: Mapping[str, str], genome: str) -> None:
    """Like the test of Ctrl-C, this test starts the installed command; the others call its function."""
    result = subprocess.run(
        [PROGRAMS / "event-hooks", "submit", json.dumps(practice_event(genome)), "--follow"],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=FOLLOW_SECONDS,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert f"({genome}) dump_dna: complete" in result.stdout
    assert result.stdout.splitlines()[-1].endswith(f"(new_assembly, {genome}): complete")


def test_following_a_failure_ends_with_1_and_its_message(command: Command, genome: str) -> None:
    failing = practice_event(genome, fail="child", only="event_dump_dna", message="[the disk] is full")
    result = command("submit", "-", "--follow", piped=json.dumps(failing))
    assert result.status == 1
    assert "  dump_dna, job " in result.stdout
    assert "[the disk] is full" in result.stdout


def test_only_json_is_printed_with_output_json(command: Command, genome: str) -> None:
    batch = [practice_event(genome, "new_genebuild"), practice_event(genome, "new_genebuild", fail="entry")]
    submitted = command("submit", "--output", "json", piped="\n".join(map(json.dumps, batch)))
    ids = [str(event["id"]) for event in json.loads(submitted.stdout)]
    result = command("follow", *ids, "--output", "json")
    assert [event["state"] for event in json.loads(result.stdout)] == ["complete", "failed"]
    assert (submitted.status, result.status) == (0, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["submit", "{'type'"], "event: expected JSON"),
        (["submit", '{"type": "new_asembly"}'], "type: expected one of"),
        (["submit", '{"type": "new_assembly", "genome": 5}'], "genome: expected a string"),
        (["retrieve", "dump_dna", "999999"], "job 999999"),
        (["list", "dump_rna"], "process: expected one of"),
        (["follow", "999999"], "event 999999"),
        (["dance"], "invalid choice"),
    ],
)
def test_an_invalid_request_ends_with_2_and_names_the_field(
    command: Command, words: list[str], message: str
) -> None:
    result = command(*words)
    assert result.status == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unreachable_server_ends_with_3(command: Command) -> None:
    result = command("events", EVENT_URI=f"http://127.0.0.1:{find_free_port()}/event-hooks")
    assert (result.status, result.stdout) == (3, "")
    assert "Connection refused" in result.stderr


@pytest.mark.parametrize("token", ["", "not.a.token"])
def test_an_invalid_token_ends_with_2_and_names_the_fix(command: Command, token: str) -> None:
    result = command("events", EVENT_HOOKS_TOKEN=token)
    assert result.status == 2
    assert "log in" in result.stderr
    assert not token or token not in result.stderr


def test_a_viewer_cannot_submit(command: Command, system: System) -> None:
    token = system.airflow.log_in("viewer")
    assert command("events", EVENT_HOOKS_TOKEN=token).status == 0
    rejected = command("submit", '{"type": "idle"}', EVENT_HOOKS_TOKEN=token)
    assert rejected.status == 2
    assert "this user has no permission" in rejected.stderr


def test_a_login_replaces_a_token(command: Command, system: System) -> None:
    login = {"EVENT_HOOKS_TOKEN": "", "EVENT_HOOKS_USER": "admin"}
    result = command("events", EVENT_HOOKS_PASSWORD=system.airflow.password, **login)
    assert result.stdout.split() == sorted(EVENT_LOOKUP)
    assert command("events", EVENT_HOOKS_PASSWORD="wrong_word", **login).status == 2
    with pytest.raises(RequestRejected) as caught:
        log_in(f"{system.airflow.url}/event-hooks", "admin", "wrong_word")
    assert "wrong_word" not in str(caught.value)


@pytest.fixture
def expired_token(system: System) -> str:
    """A token of the administrator that expired a minute ago."""
    token = system.airflow.log_in()
    claims = jwt.decode(token, options={"verify_signature": False})
    secret = system.airflow.environment["AIRFLOW__API_AUTH__JWT_SECRET"]
    algorithm = jwt.get_unverified_header(token)["alg"]
    return jwt.encode({**claims, "exp": int(time.time()) - 60}, secret, algorithm)


def test_a_client_with_a_login_renews_an_expired_token(
    system: System, environment: Mapping[str, str], expired_token: str, genome: str
) -> None:
    uri, login = environment["EVENT_URI"], ("admin", system.airflow.password)
    with pytest.raises(RequestRejected, match="this token is missing or expired"):
        EventClient(uri, expired_token).events()
    with EventClient(uri, expired_token, login=login) as client:
        job_id = client.submit(practice_event(genome, "idle"))["job_id"]
        assert job_id in [job["id"] for job in client.list("dump_idle")]


async def test_an_async_client_with_a_login_renews_an_expired_token(
    system: System, environment: Mapping[str, str], expired_token: str
) -> None:
    login = ("admin", system.airflow.password)
    async with AsyncEventClient(environment["EVENT_URI"], expired_token, login=login) as client:
        assert sorted(EVENT_LOOKUP) == await client.events()


def test_a_job_is_retrieved_listed_and_stopped(command: Command, genome: str) -> None:
    answer = json.loads(
        command("submit", json.dumps(practice_event(genome, "idle")), "--output", "json").stdout
    )
    job = str(answer["job_id"])
    assert "status: submitted" in command("retrieve", "dump_idle", job).stdout
    jobs = command("list", "dump_idle", "--limit", "1000").stdout.splitlines()
    assert any(line.startswith(f"{job}\tsubmitted\t") for line in jobs)
    stopped = command("delete", "dump_idle", job, "--output", "json")
    assert json.loads(stopped.stdout) == {
        "id": answer["job_id"],
        "process": "dump_idle",
        "stopped": [answer["job_id"]],
        "running": [],
    }
    assert command("follow", str(answer["id"])).status == 1


def test_a_plan_ends_with_1_if_a_hive_is_not_ready(command: Command) -> None:
    good, bad = (command("plan", json.dumps({"type": name})) for name in ("new_assembly", "half_wrong"))
    assert (good.status, bad.status) == (0, 1)
    assert "dump_old" in good.stdout
    assert "does not react to new_assembly" in good.stdout
    assert "no analysis 'event_dump_nothing'" in bad.stdout


def test_plans_are_compared_with_another_lookup(
    command: Command, client: EventClient, genome: str, system: System, tmp_path: Path
) -> None:
    submitted = system.api("POST", "/jobs", json=practice_event(genome, "idle")).json()
    received_at = system.api("GET", f"/events/{submitted['id']}").json()["received_at"]
    changed = {**EVENT_LOOKUP, "idle": ["dump_dna"]}
    (tmp_path / "new.json").write_text(json.dumps(changed))
    result = command("plan", "--since", received_at, "--event-lookup", str(tmp_path / "new.json"))
    assert result.status == 0, result.stderr
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert {tuple(line[:2]) for line in lines} == {("idle", "dump_dna"), ("idle", "dump_idle")}
    assert "hive_idle/event_dump_dna" in result.stdout
    compared = client.compare_plans(received_at, event_lookup=changed)
    assert {difference["process"] for difference in compared["differences"]} == {"dump_dna", "dump_idle"}
    assert submitted["id"] in compared["differences"][0]["event_ids"]
    rejected = command("plan", "--since", "soon", "--event-lookup", str(tmp_path / "new.json"))
    assert (rejected.status, "since: expected a time in ISO 8601" in rejected.stderr) == (2, True)


def test_events_and_processes_are_listed(command: Command) -> None:
    assert command("events").stdout.split() == sorted(EVENT_LOOKUP)
    assert "dump_idle" in json.loads(command("processes", "--output", "json").stdout)


def test_events_are_found_by_filters(command: Command, genome: str, system: System) -> None:
    event = practice_event(genome, "idle")
    ids = [system.api("POST", "/jobs", json=event).json()["id"] for _ in range(3)]
    started = system.api("GET", f"/events/{ids[1]}").json()["received_at"]
    found = command("find", "--genome", genome, "--state", "open", "--output", "json").stdout
    assert [event["id"] for event in json.loads(found)] == ids[::-1]
    found = command("find", "--genome", genome, "--type", "idle", "--since", started, "--limit", "1").stdout
    assert found.startswith(f"{ids[2]}\t")
    assert command("find", "--genome", genome, "--state", "complete").stdout == ""
    assert command("find", "--since", "yesterday").status == 2


def test_ctrl_c_ends_with_130_and_the_command_to_continue(
    environment: Mapping[str, str], idle_event_id: int
) -> None:
    following = subprocess.Popen(
        # Background processes of a shell ignore SIGINT, and so do their child processes
        ["env", "--default-signal=INT", PROGRAMS / "event-hooks", "follow", str(idle_event_id)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert following.stdout
    assert "dump_idle" in following.stdout.readline()
    following.send_signal(signal.SIGINT)
    _, errors = following.communicate(timeout=FOLLOW_SECONDS)
    assert following.returncode == 130
    assert errors.endswith(f"event-hooks follow {idle_event_id}\n")


def test_a_timeout_ends_following_with_3(command: Command, idle_event_id: int) -> None:
    started = time.monotonic()
    result = command("follow", str(idle_event_id), "--timeout", "1")
    assert result.status == 3
    assert time.monotonic() - started < 10
    assert f"event-hooks follow {idle_event_id}" in result.stderr


def test_the_client_has_a_method_for_each_command(client: EventClient, genome: str, system: System) -> None:
    event: dict[str, Any] = {**practice_event(genome, "idle"), "event_id": genome}
    first, second = client.submit(event), client.submit(event)
    assert first["job_id"] == second["job_id"]
    assert client.plan(event)["events"][0]["processes"] == []
    assert client.retrieve("dump_idle", first["job_id"], email="a@b")["email"] == "a@b"
    assert client.failures("dump_idle", first["job_id"]) == {}
    assert first["job_id"] in [job["id"] for job in client.list("dump_idle")]
    assert client.event(first["id"])["genome"] == genome
    assert [event["id"] for event in client.find_events(genome=genome, limit=5)] == [first["id"]]
    with pytest.raises(ServerUnreachable):
        EventClient(f"http://127.0.0.1:{find_free_port()}", "t").events()
    with pytest.raises(RequestRejected, match="is not JSON: check the address"):
        EventClient(system.airflow.url, "t").events()


async def test_the_async_client_submits_follows_and_stops(
    environment: Mapping[str, str], genome: str
) -> None:
    async with AsyncEventClient(environment["EVENT_URI"], environment["EVENT_HOOKS_TOKEN"]) as client:
        submitted = await client.submit([practice_event(genome, "idle"), practice_event(genome, "idle")])
        for event in submitted:
            assert event["job_id"]
            await client.delete("dump_idle", event["job_id"])
        ids = [event["id"] for event in submitted]
        states = {event["id"]: event["state"] async for event in client.follow(ids, timeout=FOLLOW_SECONDS)}
        assert states == dict.fromkeys(ids, "failed")
        found = [event["id"] async for event in client.find_events(genome=genome, state="failed")]
        assert found == ids[::-1]
