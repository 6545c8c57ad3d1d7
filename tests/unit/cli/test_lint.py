"""Findings of lint without hives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from event_hooks.cli.lint import Finding, lint

HIVE = {"analysis": "a", "hive_conn_id": "h"}


def lint_findings(folder: Path, events: dict[str, Any], processes: dict[str, Any]) -> list[Finding]:
    files = folder / "events.json", folder / "processes.json"
    for file, content in zip(files, (events, processes), strict=True):
        file.write_text(json.dumps(content))
    return list(lint(*files, is_offline=True))


def test_the_lookups_of_this_project_have_no_findings() -> None:
    assert list(lint(is_offline=True)) == []


def test_an_invalid_file_is_an_error_with_file_and_key(tmp_path: Path) -> None:
    (finding,) = lint_findings(tmp_path, {"a": ["q"]}, {"p": HIVE})
    assert (finding.level, finding.key) == ("error", "a[0]")
    assert str(finding).startswith(
        f"error: {tmp_path}/events.json: a[0]: expected a process of the process lookup"
    )


def test_an_unused_process_is_a_warning(tmp_path: Path) -> None:
    (finding,) = lint_findings(tmp_path, {"a": ["p"]}, {"p": HIVE, "q": HIVE})
    assert (finding.level, finding.key) == ("warning", "q")


def test_a_password_is_a_warning_that_does_not_show_it(tmp_path: Path) -> None:
    uri = "mysql://me:secret_word@host/db"
    (finding,) = lint_findings(tmp_path, {"a": ["p"]}, {"p": {"analysis": "a", "hive_uri": uri}})
    assert (finding.level, finding.key) == ("warning", "p.hive_uri")
    assert "secret_word" not in str(finding)
    assert (
        lint_findings(tmp_path, {"a": ["p"]}, {"p": {"analysis": "a", "hive_uri": "mysql://me@host/db"}})
        == []
    )


def test_an_unknown_type_in_emits_is_an_error(tmp_path: Path) -> None:
    (finding,) = lint_findings(tmp_path, {"a": ["p"], "b": []}, {"p": {**HIVE, "emits": ["b", "c"]}})
    assert (finding.level, finding.key) == ("error", "p.emits[1]")
    assert finding.message == "expected one of a, b, not 'c'"


@pytest.mark.parametrize(
    ("emits", "chain"),
    [
        ({"p": ["b"], "q": ["a"]}, "a → p → b → q → a"),
        ({"p": ["a"], "q": []}, "a → p → a"),
        ({"p": ["b"], "q": ["c"]}, None),
    ],
    ids=["two", "itself", "none"],
)
def test_a_cycle_is_an_error_that_shows_the_chain(
    tmp_path: Path, emits: dict[str, list[str]], chain: str | None
) -> None:
    processes = {name: {**HIVE, "emits": types} for name, types in emits.items()}
    findings = lint_findings(tmp_path, {"a": ["p"], "b": ["q"], "c": []}, processes)
    errors = [finding for finding in findings if finding.level == "error"]
    chains = [error.message.partition("found ")[2].partition(":")[0] for error in errors]
    assert [error.key for error in errors] == ["p.emits"] * bool(chain)
    assert chains == [chain] * bool(chain)


def test_a_notifier_that_cannot_be_built_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notifier = {"class": "no.such.Notifier", "on": ["failed"]}
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__NOTIFIERS", json.dumps([notifier]))
    (finding,) = lint_findings(tmp_path, {"a": ["p"]}, {"p": HIVE})
    assert (finding.level, finding.file, finding.key) == ("error", "[event_hooks]", "notifiers[0].class")


def test_a_removed_setting_is_an_error_that_names_its_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__FAILURE_MAIL_TO", "a@b")
    (finding,) = lint_findings(tmp_path, {"a": ["p"]}, {"p": HIVE})
    assert (finding.level, finding.file, finding.key) == ("error", "[event_hooks]", "failure_mail_to")
    assert "use the setting notifiers" in finding.message
