"""The command line, without a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from event_hooks.cli.main import main
from event_hooks.client import http
from tests.support.json_server import JsonServer
from tools.ports import find_free_port

FINISHED = {
    "id": 7,
    "type": "a",
    "genome": "g",
    "state": "complete",
    "is_finished": True,
    "rejected_reason": None,
    "processes": [],
}
"""A finished event."""


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server listens at the address, and no token is set."""
    monkeypatch.setattr(http, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setenv("EVENT_URI", f"http://127.0.0.1:{find_free_port()}/event-hooks")
    for name in ("EVENT_HOOKS_TOKEN", "EVENT_HOOKS_TOKEN_FILE", "EVENT_HOOKS_USER", "EVENT_HOOKS_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "arguments",
    [[], ["dance"], ["submit", "{}", "{}"], ["follow"], ["follow", "x"], ["retrieve", "dump_dna"], ["list"]],
    ids=" ".join,
)
def test_invalid_arguments_end_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("usage: event-hooks")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["submit", "{"], "event: expected JSON"),
        (["plan", "none.json"], "event: expected JSON or a file"),
        (
            ["plan", "{}", "--since", "1d", "--event-lookup", "a"],
            "EVENT: expected no EVENT or --idempotency-key",
        ),
        (["plan", "--since", "1d", "--idempotency-key", "a"], "--idempotency-key: expected no EVENT or"),
        (["plan", "--since", "1d"], "--since: expected also --event-lookup or --process-lookup"),
        (["plan", "{}", "--until", "1d"], "--until: expected only with --since"),
        (["plan", "{}", "--event-lookup", "a"], "--event-lookup: expected only with --since"),
        (["plan", "{}", "--process-lookup", "a"], "--process-lookup: expected only with --since"),
        (
            ["plan", "--since", "1d", "--event-lookup", "none.json"],
            "--event-lookup: expected a file, not 'none.json': No such file",
        ),
        (["events", "--uri", "localhost:8080"], "uri: expected an address like"),
        (["events", "--uri", "http://localhost:port"], "Port could not be cast"),
        (
            ["events", "--uri", "http://me:secret_word@localhost"],
            "uri: expected an address without user and password",
        ),
        (["events", "--token-file", "none.txt"], "none.txt"),
    ],
    ids=" ".join,
)
def test_the_error_names_the_invalid_argument(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "secret_word" not in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected JSON: "),
        ("[NaN]", "expected JSON: NaN is not JSON"),
        ('{"a": [], "a": []}', "expected JSON: the key 'a' occurs twice in an object"),
    ],
)
def test_a_lookup_that_is_not_json_is_not_sent(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new.json"
    file.write_text(text)
    assert main(["plan", "--since", "1d", "--process-lookup", str(file)]) == 2
    assert capsys.readouterr().err.startswith(f"event-hooks: --process-lookup: {file}: {message}")


def test_an_invalid_token_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "token"
    file.write_text("secret\nword\n")
    assert main(["events", "--token-file", str(file)]) == 2
    assert (
        capsys.readouterr().err == "event-hooks: token: expected printable ASCII characters without spaces\n"
    )


def test_an_unreachable_server_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", '{"type": "new_assembly"}']) == 3
    assert "Connection refused" in capsys.readouterr().err


def test_follow_renews_an_expired_token(json_server: JsonServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENT_HOOKS_PASSWORD", "my_password")
    expired, running = (401, {}, {"detail": "Token Expired"}), {**FINISHED, "is_finished": False}
    json_server.answers = [
        *((201, {}, {"access_token": "first"}), (200, {}, [running])),
        *(expired, (201, {}, {"access_token": "second"}), (200, {}, [FINISHED])),
    ]
    assert main(["follow", "7", "--user", "me", "--uri", json_server.uri]) == 0


def test_follow_with_an_expired_token_tells_how_to_continue(
    json_server: JsonServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVENT_HOOKS_TOKEN", "first")
    running = {**FINISHED, "id": 8, "is_finished": False}
    json_server.answers = [(200, {}, [FINISHED, running]), (401, {}, {"detail": "Token Expired"})]
    assert main(["follow", "7", "8", "--uri", json_server.uri]) == 2
    error = capsys.readouterr().err
    assert "The events continue. To follow them again: event-hooks follow --user NAME 8\n" in error
    assert "Token Expired (log in with --user NAME" in error


def test_follow_of_an_unknown_event_does_not_promise_that_it_continues(
    json_server: JsonServer, capsys: pytest.CaptureFixture[str]
) -> None:
    json_server.answers = [(404, {}, {"error": "event 7: the ledger has no such event"})]
    assert main(["follow", "7", "--uri", json_server.uri]) == 2
    assert capsys.readouterr().err == "event-hooks: event 7: the ledger has no such event\n"


def test_lint_prints_findings_as_text_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "events.json"
    file.write_text("{")
    arguments = ["lint", "--offline", "--event-lookup", str(file)]
    assert main(arguments) == 1
    assert capsys.readouterr().out.startswith(f"error: {file}: the whole file: expected JSON")
    assert main([*arguments, "--output", "json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)
    assert {"level": "error", "file": str(file), "key": "the whole file"}.items() <= finding.items()


@pytest.mark.parametrize(("module", "packages"), [("client", "airflow rich"), ("cli.main", "airflow")])
def test_the_client_does_not_need_airflow(module: str, packages: str) -> None:
    missing = f"sys.modules.update(dict.fromkeys({packages.split()}))"
    assert (
        subprocess.run(
            [sys.executable, "-c", f"import sys; {missing}; import event_hooks.{module}"]
        ).returncode
        == 0
    )


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert (end.value.code, capsys.readouterr().out) == (0, f"event-hooks {version('event-hooks')}\n")


def test_the_shell_completes_commands_and_options(tmp_path: Path) -> None:
    script = """
        eval "$(register-python-argcomplete event-hooks)"
        COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDBREAKS=' ' COMP_TYPE=9
        _python_argcomplete event-hooks
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for line, completion in (("event-hooks fi", "find"), ("event-hooks find --st", "--state")):
        completed = subprocess.run(
            ["bash", "-c", script, "bash", line],
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
        )
        assert completed.stdout.split() == [completion]


def build_actions(*, is_dry_run: bool, reason: str | None = None) -> dict[str, object]:
    """Return the response to a retry of one process."""
    item = {"event": 7, "type": "a", "genome": "g", "process": "dump_dna", "state": "failed"}
    items = [{**item, "is_applied": reason is None, "reason": reason, "new_event": None}]
    applied = int(reason is None)
    return {"events": 1, "applied": applied, "is_dry_run": is_dry_run, "items": items, "problems": ["slow"]}


def test_a_retry_shows_what_would_happen_and_asks(
    json_server: JsonServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    for answer, requests in (("n\n", 1), ("y\n", 2)):
        json_server.requests.clear()
        json_server.answers = [(200, {}, build_actions(is_dry_run=value)) for value in (True, False)]
        monkeypatch.setattr("sys.stdin.readline", lambda answer=answer: answer)
        assert main(["retry", "7", "--uri", json_server.uri]) == 0
        flags = [body["dry_run"] for _, _, _, body in json_server.requests]
        assert flags == [True, False][:requests]
        printed = capsys.readouterr()
        assert printed.out.splitlines()[0].split("\t") == ["7", "a", "g", "dump_dna", "failed", "retry"]
        assert "1 of 1 would be retried" in printed.err
        assert "Retry 1 item? [y/N]" in printed.err


def test_a_retry_without_a_terminal_requires_yes(
    json_server: JsonServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert main(["stop", "--state", "open", "--uri", json_server.uri]) == 2
    assert "--yes: expected, because standard input is not a terminal" in capsys.readouterr().err
    assert json_server.requests == []
    json_server.answers = [(200, {}, build_actions(is_dry_run=False))]
    assert main(["stop", "--state", "open", "--yes", "--uri", json_server.uri]) == 0
    printed = capsys.readouterr()
    assert "1 of 1 stopped\nWarning: slow\n" in printed.err


def test_a_retry_that_applies_to_nothing_does_not_ask(
    json_server: JsonServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    json_server.answers = [(200, {}, build_actions(is_dry_run=True, reason="it is complete"))]
    assert main(["retry", "7", "--uri", json_server.uri]) == 0
    assert capsys.readouterr().out.endswith("\tnone: it is complete\n")


def test_a_retry_is_followed(json_server: JsonServer, capsys: pytest.CaptureFixture[str]) -> None:
    json_server.answers = [(200, {}, build_actions(is_dry_run=False)), (200, {}, [FINISHED])]
    assert main(["retry", "7", "--yes", "--follow", "--uri", json_server.uri]) == 0
    assert "event 7 (a, g): complete" in capsys.readouterr().out


def test_a_followed_stop_succeeds_although_the_event_is_failed(json_server: JsonServer) -> None:
    stopped = {**FINISHED, "state": "failed"}
    for command, status in (("stop", 0), ("retry", 1)):
        json_server.answers = [(200, {}, build_actions(is_dry_run=False)), (200, {}, [stopped])]
        assert main([command, "7", "--yes", "--follow", "--uri", json_server.uri]) == status
