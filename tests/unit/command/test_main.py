"""The command line, as far as no server is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from event_hooks.cli.main import main
from event_hooks.client import http
from tools.ports import free_port


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens, and nobody is logged in."""
    monkeypatch.setattr(http, "PAUSE", 0.01)
    monkeypatch.setenv("EVENT_URI", f"http://127.0.0.1:{free_port()}/event-hooks")
    for name in ("EVENT_HOOKS_TOKEN", "EVENT_HOOKS_TOKEN_FILE", "EVENT_HOOKS_USER", "EVENT_HOOKS_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "words",
    [[], ["dance"], ["submit", "{}", "{}"], ["follow"], ["follow", "x"], ["retrieve", "dump_dna"], ["list"]],
    ids=" ".join,
)
def test_a_line_that_makes_no_sense_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: event-hooks")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["submit", "{"], "event: expected JSON"),
        (["plan", "none.json"], "event: expected JSON or a file"),
        (["events", "--uri", "localhost:8080"], "uri: expected an address like"),
        (["events", "--uri", "http://localhost:port"], "Port could not be cast"),
        (["events", "--uri", "http://me:secret_word@localhost"], "uri: expected no user and password"),
        (["events", "--token-file", "none.txt"], "none.txt"),
    ],
    ids=" ".join,
)
def test_an_argument_that_cannot_be_used_is_named(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "secret_word" not in error


def test_a_token_that_cannot_be_sent_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "token"
    file.write_text("secret\nword\n")
    assert main(["events", "--token-file", str(file)]) == 2
    assert capsys.readouterr().err == "event-hooks: token: expected one word of ASCII signs\n"


def test_nobody_at_the_address_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", '{"type": "new_assembly"}']) == 3
    assert "Connection refused" in capsys.readouterr().err


def test_lint_prints_what_is_wrong_for_people_and_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "events.json"
    file.write_text("{")
    words = ["lint", "--offline", "--event-lookup", str(file)]
    assert main(words) == 1
    assert capsys.readouterr().out.startswith(f"error: {file}: the whole file: expected JSON")
    assert main([*words, "--output", "json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)
    assert {"level": "error", "file": str(file), "key": "the whole file"}.items() <= finding.items()


@pytest.mark.parametrize(("module", "others"), [("client", "airflow rich"), ("cli.main", "airflow")])
def test_the_client_does_without_what_only_others_need(module: str, others: str) -> None:
    code = f"import sys, event_hooks.{module}; sys.exit(any(x in sys.modules for x in '{others}'.split()))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
