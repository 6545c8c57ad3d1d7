"""The command event-hooks, as a person types it, against the running Airflow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from event_hooks.client import EventClient, RequestRefused, ServerUnreachable, log_in
from tests.support.running_airflow import EVENT_LOOKUP, LIMIT, System
from tests.system.test_process_event import event
from tools.airflow_services import PROGRAMS
from tools.ports import free_port

FOLLOW_LIMIT = 2 * LIMIT
"""From the request to the last process: Airflow starts a run, and tasks of it, in between."""

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def surroundings(system: System) -> Mapping[str, str]:
    """The environment of somebody who has never logged in, and has a token."""
    return {
        "PATH": os.environ["PATH"],
        "EVENT_URI": f"{system.airflow.url}/event-hooks/",
        "EVENT_HOOKS_TOKEN": system.airflow.token(),
    }


@pytest.fixture
def command(surroundings: Mapping[str, str]) -> Command:
    """Runs the command with these words."""

    def run(*words: str, piped: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAMS / "event-hooks", *words],
            env={**surroundings, **variables},
            input=piped,
            capture_output=True,
            text=True,
            timeout=FOLLOW_LIMIT,
        )

    return run


@pytest.fixture
def client(surroundings: Mapping[str, str]) -> EventClient:
    """The client that the command stands on."""
    return EventClient(surroundings["EVENT_URI"], surroundings["EVENT_HOOKS_TOKEN"])


def test_following_a_success_ends_with_0(command: Command, genome: str) -> None:
    done = command("submit", json.dumps(event(genome)), "--follow")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"({genome}) dump_dna: complete" in done.stdout
    assert done.stdout.splitlines()[-1].endswith(f"(new_assembly, {genome}): complete")


def test_following_a_failure_ends_with_1_and_its_message(command: Command, genome: str) -> None:
    failing = event(genome, fail="child", only="event_dump_dna", message="[the disk] is full")
    done = command("submit", "-", "--follow", piped=json.dumps(failing))
    assert done.returncode == 1
    assert "  dump_dna, job " in done.stdout
    assert "[the disk] is full" in done.stdout


def test_json_is_all_that_is_printed_for_a_program(command: Command, genome: str) -> None:
    batch = [event(genome, "new_genebuild"), event(genome, "new_genebuild", fail="entry")]
    submitted = command("submit", "--output", "json", piped="\n".join(map(json.dumps, batch)))
    ids = [str(one["id"]) for one in json.loads(submitted.stdout)]
    done = command("follow", *ids, "--output", "json")
    assert [one["state"] for one in json.loads(done.stdout)] == ["complete", "failed"]
    assert (submitted.returncode, done.returncode) == (0, 1)


@pytest.mark.parametrize(
    ("words", "named"),
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
def test_nonsense_ends_with_2_and_names_the_field(command: Command, words: list[str], named: str) -> None:
    done = command(*words)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_at_the_address_ends_with_3(command: Command) -> None:
    done = command("events", EVENT_URI=f"http://127.0.0.1:{free_port()}/event-hooks")
    assert (done.returncode, done.stdout) == (3, "")
    assert "Connection refused" in done.stderr


@pytest.mark.parametrize("token", ["", "not.a.token"])
def test_without_a_good_token_it_says_what_to_do(command: Command, token: str) -> None:
    done = command("events", EVENT_HOOKS_TOKEN=token)
    assert done.returncode == 2
    assert "log in" in done.stderr
    assert not token or token not in done.stderr


def test_who_may_only_look_is_told_so(command: Command, system: System) -> None:
    token = system.airflow.token("looker")
    assert command("events", EVENT_HOOKS_TOKEN=token).returncode == 0
    refused = command("submit", '{"type": "idle"}', EVENT_HOOKS_TOKEN=token)
    assert refused.returncode == 2
    assert "this user has no right to do that" in refused.stderr


def test_a_login_does_instead_of_a_token(command: Command, system: System) -> None:
    login = {"EVENT_HOOKS_TOKEN": "", "EVENT_HOOKS_USER": "admin"}
    done = command("events", EVENT_HOOKS_PASSWORD=system.airflow.password, **login)
    assert done.stdout.split() == sorted(EVENT_LOOKUP)
    assert command("events", EVENT_HOOKS_PASSWORD="wrong_word", **login).returncode == 2
    with pytest.raises(RequestRefused) as caught:
        log_in(f"{system.airflow.url}/event-hooks", "admin", "wrong_word")
    assert "wrong_word" not in str(caught.value)


def test_a_job_is_retrieved_listed_and_stopped(command: Command, genome: str) -> None:
    answer = json.loads(command("submit", json.dumps(event(genome, "idle")), "--output", "json").stdout)
    job = str(answer["job_id"])
    assert "status: submitted" in command("retrieve", "dump_idle", job).stdout
    assert f"\n{job} " in command("list", "dump_idle").stdout
    stopped = command("delete", "dump_idle", job, "--output", "json")
    assert json.loads(stopped.stdout) == {
        "id": answer["job_id"],
        "process": "dump_idle",
        "stopped": [answer["job_id"]],
        "running": [],
    }
    assert command("follow", str(answer["id"])).returncode == 1


def test_a_plan_ends_with_1_where_a_hive_is_not_ready(command: Command) -> None:
    good, bad = (command("plan", json.dumps({"type": name})) for name in ("new_assembly", "half_wrong"))
    assert (good.returncode, bad.returncode) == (0, 1)
    assert "dump_old" in good.stdout
    assert "it does not react to new_assembly" in good.stdout
    assert "no analysis 'event_dump_nothing'" in bad.stdout


def test_events_and_processes_are_listed(command: Command) -> None:
    assert command("events").stdout.split() == sorted(EVENT_LOOKUP)
    assert "dump_idle" in json.loads(command("processes", "--output", "json").stdout)


def test_ctrl_c_leaves_the_events_and_says_how_to_follow_them_again(
    surroundings: Mapping[str, str], genome: str, client: EventClient
) -> None:
    event_id = client.submit(event(genome, "idle"))["id"]
    following = subprocess.Popen(
        # Whoever runs the tests in the background has SIGINT ignored, also for what they start
        ["env", "--default-signal=INT", PROGRAMS / "event-hooks", "follow", str(event_id)],
        env=surroundings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert following.stdout
    assert "dump_idle" in following.stdout.readline()
    following.send_signal(signal.SIGINT)
    _, errors = following.communicate(timeout=FOLLOW_LIMIT)
    assert following.returncode == 130
    assert errors.endswith(f"event-hooks follow {event_id}\n")


def test_a_limit_ends_the_following_with_3(command: Command, genome: str, client: EventClient) -> None:
    event_id = str(client.submit(event(genome, "idle"))["id"])
    started = time.monotonic()
    done = command("follow", event_id, "--timeout", "1")
    assert done.returncode == 3
    assert time.monotonic() - started < 10
    assert f"event-hooks follow {event_id}" in done.stderr


def test_the_client_speaks_as_the_command_does(client: EventClient, genome: str, system: System) -> None:
    named: dict[str, Any] = {**event(genome, "idle"), "event_id": genome}
    first, again = client.submit(named), client.submit(named)
    assert first["job_id"] == again["job_id"]
    assert client.plan(named)["events"][0]["processes"] == []
    assert client.retrieve("dump_idle", first["job_id"], email="a@b")["email"] == "a@b"
    assert client.failures("dump_idle", first["job_id"]) == {}
    assert first["job_id"] in [job["id"] for job in client.list("dump_idle")]
    assert client.event(first["id"])["genome"] == genome
    with pytest.raises(ServerUnreachable):
        EventClient(f"http://127.0.0.1:{free_port()}", "t").events()
    with pytest.raises(RequestRefused, match="no JSON: is it the right address"):
        EventClient(system.airflow.url, "t").events()
