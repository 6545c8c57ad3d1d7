"""What lint says of real hives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from event_hooks import settings
from event_hooks.cli.lint import Finding, lint
from tests.integration.hives import PracticeHive

MakeHive = Callable[..., PracticeHive]


@pytest.fixture
def findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Finding]]:
    """Lint lookups with this one process; no connection is looked for in a database."""
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "fallback")
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__LOOKUP_CACHE_DIR", str(tmp_path / "kept"))

    def lint_one(**process: Any) -> list[Finding]:
        files = tmp_path / "events.json", tmp_path / "processes.json"
        for file, content in zip(files, ({"a": ["p"]}, {"p": process}), strict=True):
            file.write_text(json.dumps(content))
        return list(lint(*files))

    return lint_one


@pytest.mark.parametrize("server", ["mysql", "sqlite"])
def test_a_good_hive_is_no_finding(
    make_hive: MakeHive, findings: Callable[..., list[Finding]], server: str
) -> None:
    hive = make_hive(server)
    assert findings(analysis="event_dump_dna", hive_conn_id=hive.conn_id) == []
    assert [one.level for one in findings(analysis="event_dump_dna", hive_uri=hive.url)] in ([], ["warning"])
    assert not settings.lookup_cache_dir().exists()


def test_a_missing_analysis_is_an_error_of_that_key(
    make_hive: MakeHive, findings: Callable[..., list[Finding]]
) -> None:
    (found,) = findings(analysis="event_dump_rna", hive_conn_id=make_hive().conn_id)
    assert (found.level, found.key) == ("error", "p.analysis")
    assert "no analysis 'event_dump_rna'" in found.message


def test_an_old_hive_is_an_error(make_hive: MakeHive, findings: Callable[..., list[Finding]]) -> None:
    (found,) = findings(analysis="event_dump_dna", hive_conn_id=make_hive(schema_version=80).conn_id)
    assert (found.level, found.key) == ("error", "p.hive_conn_id")
    assert "schema version is 80" in found.message


def test_a_connection_that_is_not_there_is_an_error(findings: Callable[..., list[Finding]]) -> None:
    (found,) = findings(analysis="event_dump_dna", hive_conn_id="nowhere")
    assert (found.level, found.key) == ("error", "p.hive_conn_id")
    assert "no connection of this name" in found.message


def test_a_silent_hive_is_an_error_without_its_password(findings: Callable[..., list[Finding]]) -> None:
    found = findings(analysis="event_dump_dna", hive_uri="mysql://me:secret_word@127.0.0.1:1/hive")
    assert [(one.level, one.key) for one in found] == [("warning", "p.hive_uri"), ("error", "p.hive_uri")]
    assert "does not answer" in found[1].message
    assert "secret_word" not in str(found)
