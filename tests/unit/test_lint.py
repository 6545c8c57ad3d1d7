"""What lint says without asking a hive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from event_hooks.cli.lint import Finding, lint

HIVE = {"analysis": "a", "hive_conn_id": "h"}


def findings(folder: Path, events: dict[str, Any], processes: dict[str, Any]) -> list[Finding]:
    files = folder / "events.json", folder / "processes.json"
    for file, content in zip(files, (events, processes), strict=True):
        file.write_text(json.dumps(content))
    return list(lint(*files, is_offline=True))


def test_our_own_lookups_are_clean() -> None:
    assert list(lint(is_offline=True)) == []


def test_a_broken_file_is_named_with_its_key(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, {"a": ["q"]}, {"p": HIVE})
    assert (found.level, found.key) == ("error", "a[0]")
    assert str(found).startswith(f"error: {tmp_path}/events.json: a[0]: expected a process that ")


def test_a_process_that_nothing_asks_for_is_a_warning(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, {"a": ["p"]}, {"p": HIVE, "q": HIVE})
    assert (found.level, found.key) == ("warning", "q")


def test_a_password_is_warned_of_and_not_shown(tmp_path: Path) -> None:
    uri = "mysql://me:secret_word@host/db"
    (found,) = findings(tmp_path, {"a": ["p"]}, {"p": {"analysis": "a", "hive_uri": uri}})
    assert (found.level, found.key) == ("warning", "p.hive_uri")
    assert "secret_word" not in str(found)
    assert findings(tmp_path, {"a": ["p"]}, {"p": {"analysis": "a", "hive_uri": "mysql://me@host/db"}}) == []


def test_what_is_emitted_must_be_known(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, {"a": ["p"], "b": []}, {"p": {**HIVE, "emits": ["b", "c"]}})
    assert (found.level, found.key) == ("error", "p.emits[1]")
    assert found.message == "expected one of a, b, not 'c'"


@pytest.mark.parametrize(
    ("emits", "chain"),
    [
        ({"p": ["b"], "q": ["a"]}, "a → p → b → q → a"),
        ({"p": ["a"], "q": []}, "a → p → a"),
        ({"p": ["b"], "q": ["c"]}, None),
    ],
    ids=["two", "itself", "none"],
)
def test_a_loop_is_shown_as_a_chain(tmp_path: Path, emits: dict[str, list[str]], chain: str | None) -> None:
    processes = {name: {**HIVE, "emits": types} for name, types in emits.items()}
    found = findings(tmp_path, {"a": ["p"], "b": ["q"], "c": []}, processes)
    errors = [one for one in found if one.level == "error"]
    assert [one.message.partition("found ")[2].partition(":")[0] for one in errors] == [chain] * bool(chain)
    assert [one.key for one in errors] == ["p.emits"] * bool(chain)
