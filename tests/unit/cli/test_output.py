"""The output of the command, from a server with prepared answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from event_hooks.cli.main import main
from tests.support.json_server import JsonServer

UNSAFE = "a\x1b[31m\x9b2J\x7f\u202eb\td"
ESCAPED = r"a\x1b[31m\x9b2J\x7f\u202eb\td"

PROCESS = {
    **{"process": UNSAFE, "hive": UNSAFE, "analysis": UNSAFE, "job": 3, "state": "failed"},
    **{"is_finished": True, "done": 1, "total": 2, "failed": 1, "message": UNSAFE, "error": UNSAFE},
    **{"is_ready": False, "problem": UNSAFE, "reason": UNSAFE},
}
EVENT = {
    **{"id": 7, "type": UNSAFE, "genome": None, "received_at": "2026-11-01", "state": "failed"},
    **{"event": {"type": UNSAFE}, "rejected_reason": None, "is_finished": True, "processes": [PROCESS]},
}
PLAN = {"events": [{**EVENT, "others": [PROCESS]}], "not_reacting": {EVENT["event"]["type"]: [PROCESS]}}
DIFFERENCE = {
    **{"type": UNSAFE, "process": UNSAFE, "now": 7, "then": 7, "is_moved": False, "event_ids": [3, 4]},
    **{"place_now": UNSAFE, "place_then": UNSAFE, "join_now": None, "join_then": None},
}
COMPARISON = {
    **{"events": 9, "excluded": 0, "unchanged": 2, "differences": [DIFFERENCE]},
    "rejected": [{"type": UNSAFE, "reason": UNSAFE, "now": 0, "then": 2, "event_ids": [5]}],
}
LOGIN = (201, {}, {"access_token": "of_the_login"})
JOB = {"id": 3, "status": UNSAFE, "input": {"event": EVENT}, "progress": {"complete": 1, "total": 2}}


@pytest.fixture(autouse=True)
def _environment(json_server: JsonServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EVENT_HOOKS_TOKEN_FILE", "EVENT_HOOKS_USER", "EVENT_HOOKS_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EVENT_URI", json_server.uri)
    monkeypatch.setenv("EVENT_HOOKS_TOKEN", "of_the_environment")


@pytest.fixture
def lookup_file(tmp_path: Path) -> Path:
    """A file with an event lookup and the byte order mark of an editor."""
    file = tmp_path / "new.json"
    file.write_text('{"new_assembly": ["dump_dna"]}', "utf-8-sig")
    return file


def run_in_terminal(*arguments: str) -> str:
    """Run the command on a terminal that has no colors, and return the output."""
    terminal, stdout = os.openpty()
    with open(terminal, "rb", buffering=0) as output:
        environment = {**os.environ, "TERM": "dumb", "COLUMNS": "200"}
        command = [sys.executable, "-m", "event_hooks.cli", *arguments]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, env=environment)
        os.close(stdout)
        text = b""
        while chunk := _read(output.fileno()):
            text += chunk
        process.wait()
    return text.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: the command has ended
        return b""


def test_values_are_between_tabs_if_the_output_is_no_terminal(
    json_server: JsonServer, capsys: pytest.CaptureFixture[str]
) -> None:
    event = {**EVENT, "type": "new_assembly", "processes": [{**PROCESS, "process": "dump_dna"}]}
    json_server.answers = [(200, {}, [event, {**event, "id": 10, "state": "complete", "processes": []}])]
    assert main(["find", "--state", "failed", "--genome", "x", "--limit", "5"]) == 0
    assert capsys.readouterr().out == (
        "7\t2026-11-01\tnew_assembly\t\tfailed\tdump_dna (job 3)\n"
        "10\t2026-11-01\tnew_assembly\t\tcomplete\t\n"
    )
    assert json_server.requests[0][1].partition("?")[2] == "state=failed&genome=x&limit=5"


def test_a_terminal_shows_a_table(json_server: JsonServer) -> None:
    event = {**EVENT, "type": "a\x1b[31m", "processes": [{**PROCESS, "process": "[bold]b"}]}
    json_server.answers = [(200, {}, [event])]
    headers, row = run_in_terminal("find").splitlines()
    assert headers.split() == ["event", "received", "type", "genome", "state", "failed"]
    assert row.split() == ["7", "2026-11-01", r"a\x1b[31m", "failed", "[bold]b", "(job", "3)"]


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["submit", "{}"], EVENT),
        (["submit", "{}", "--follow"], [EVENT]),
        (["plan", "{}"], PLAN),
        (["plan", "--since", "1d", "--event-lookup", "FILE"], COMPARISON),
        (["follow", "7"], [EVENT]),
        (["find"], [EVENT]),
        (["list", "p"], [JOB]),
        (["retrieve", "p", "3"], JOB),
        (["retrieve", "p", "3", "--failures"], {"3": UNSAFE}),
        (["delete", "p", "3"], {"id": 3, "process": UNSAFE}),
        (["events"], [UNSAFE]),
        (["processes"], [UNSAFE]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and isinstance(value[0], str) else "",
)
@pytest.mark.parametrize("output", ["text", "json"])
def test_no_value_controls_the_terminal(
    json_server: JsonServer,
    capsys: pytest.CaptureFixture[str],
    lookup_file: Path,
    arguments: list[str],
    answer: Any,
    output: str,
) -> None:
    json_server.answers = (
        [(200, {}, EVENT), (200, {}, answer)] if "--follow" in arguments else [(200, {}, answer)]
    )
    main(["--output", output, *(str(lookup_file) if word == "FILE" else word for word in arguments)])
    printed = capsys.readouterr().out
    assert all(character.isprintable() or character in "\t\n" for character in printed)
    assert (ESCAPED if output == "text" else json.dumps(UNSAFE)[1:-1]) in printed


def test_a_comparison_prints_differences_and_rejected_types(
    json_server: JsonServer, capsys: pytest.CaptureFixture[str], lookup_file: Path
) -> None:
    place = {"type": "a", "process": "p", "place_now": "hive/x", "place_then": "hive/x"}
    join = {"after": ["a", "b"], "within": 3600.0, "then": "run"}
    differences = [
        {**DIFFERENCE, **place, "then": 0, "place_then": None},
        {**DIFFERENCE, **place, "place_then": "other/x", "is_moved": True},
        {**DIFFERENCE, **place, "is_moved": True},
        {**DIFFERENCE, **place, "join_then": join},
    ]
    rejected = [{"type": "b", "reason": "type: expected a", "now": 1, "then": 2, "event_ids": [5]}]
    answer = {**COMPARISON, "excluded": 4, "differences": differences, "rejected": rejected}
    json_server.answers = [(200, {}, answer)]
    arguments = ["plan", "--since", "30d", "--until", "1h", "--event-lookup", str(lookup_file)]
    assert main([*arguments, "--process-lookup", str(lookup_file)]) == 0
    printed = capsys.readouterr()
    assert [line.split("\t") for line in printed.out.splitlines()] == [
        ["a", "p", "7", "0", "hive/x", "does not react", "3, 4"],
        ["a", "p", "7", "7", "hive/x", "other/x", "3, 4"],
        ["a", "p", "7", "7", "hive/x", "hive/x, another hive_uri", "3, 4"],
        ["a", "p", "7", "7", "hive/x", "hive/x, join of a and b within 3600 s, then run", "3, 4"],
        ["b", "(rejected)", "1", "2", "", "type: expected a", "5"],
    ]
    totals = "9 events compared, 2 without a difference; 4 events of joins or partial repetitions excluded"
    assert printed.err == f"{totals}\n"
    content = {"new_assembly": ["dump_dna"]}
    body = {"since": "30d", "until": "1h", "event_lookup": content, "process_lookup": content}
    assert json_server.requests[0][3] == body
    assert main(["--output", "json", *arguments]) == 0
    assert json.loads(capsys.readouterr().out) == answer


def test_a_progress_bar_does_not_control_the_terminal(json_server: JsonServer) -> None:
    json_server.answers = [(200, {}, [EVENT])]
    printed = run_in_terminal("follow", "7")
    assert ESCAPED in printed
    assert "\x1b[31m" not in printed
    assert "\x9b" not in printed


def test_an_error_message_does_not_control_the_terminal(
    json_server: JsonServer, capsys: pytest.CaptureFixture[str]
) -> None:
    json_server.answers = [(404, {}, {"detail": UNSAFE})]
    assert main(["events"]) == 2
    assert capsys.readouterr().err == f"event-hooks: {ESCAPED}\n"


@pytest.mark.parametrize(
    "arguments",
    [["events", "--output", "json"], ["--output", "json", "events"], ["--output=json", "events", "--user=x"]],
    ids=" ".join,
)
def test_a_common_option_stands_before_or_after_the_command(
    json_server: JsonServer,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EVENT_HOOKS_PASSWORD", "my_password")
    json_server.answers = [*([LOGIN] if "--user=x" in arguments else []), (200, {}, ["a"])]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == ["a"]


@pytest.mark.parametrize(
    ("arguments", "token"),
    [([], "of_the_environment"), (["--token-file", "t"], "of_the_file")],
    ids=["environment", "file"],
)
def test_a_token_comes_from_the_arguments_or_the_environment(
    json_server: JsonServer, arguments: list[str], token: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t").write_text("of_the_file\n")
    monkeypatch.setenv("EVENT_HOOKS_USER", "other")
    json_server.answers = [(200, {}, [])]
    assert main([*arguments, "events"]) == 0
    assert [headers["Authorization"] for _, _, headers, _ in json_server.requests] == [f"Bearer {token}"]


def test_a_user_in_the_arguments_replaces_the_token_of_the_environment(
    json_server: JsonServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENT_HOOKS_USER", "other")
    monkeypatch.setenv("EVENT_HOOKS_PASSWORD", "my_password")
    json_server.answers = [LOGIN, (200, {}, [])]
    assert main(["--user", "me", "events"]) == 0
    login, request = json_server.requests
    assert login[3]["username"] == "me"
    assert request[2]["Authorization"] == "Bearer of_the_login"


def test_a_reader_that_ends_early_is_no_error(json_server: JsonServer) -> None:
    json_server.answers = [(200, {}, ["a" * 100] * 10_000)]
    command = [sys.executable, "-m", "event_hooks.cli", "events"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
