"""The findings of lint on real hives."""

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
def lint_lookups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Finding]]:
    """A function that lints lookups with a single process; connections are not read from a database."""
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "fallback")
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__LOOKUP_CACHE_DIR", str(tmp_path / "kept"))

    def lint_process(**process: Any) -> list[Finding]:
        files = tmp_path / "events.json", tmp_path / "processes.json"
        for file, content in zip(files, ({"a": ["p"]}, {"p": process}), strict=True):
            file.write_text(json.dumps(content))
        return list(lint(*files))

    return lint_process


@pytest.mark.parametrize("server", ["mysql", "sqlite"])
def test_a_valid_hive_has_no_finding(
    make_hive: MakeHive, lint_lookups: Callable[..., list[Finding]], server: str
) -> None:
    hive = make_hive(server)
    assert lint_lookups(analysis="event_dump_dna", hive_conn_id=hive.conn_id) == []
    assert [finding.level for finding in lint_lookups(analysis="event_dump_dna", hive_uri=hive.url)] in (
        [],
        ["warning"],
    )
    assert not settings.lookup_cache_dir().exists()


def test_a_missing_analysis_is_an_error_of_its_key(
    make_hive: MakeHive, lint_lookups: Callable[..., list[Finding]]
) -> None:
    (finding,) = lint_lookups(analysis="event_dump_rna", hive_conn_id=make_hive().conn_id)
    assert (finding.level, finding.key) == ("error", "p.analysis")
    assert "no analysis 'event_dump_rna'" in finding.message


def test_an_old_hive_is_an_error(make_hive: MakeHive, lint_lookups: Callable[..., list[Finding]]) -> None:
    (finding,) = lint_lookups(analysis="event_dump_dna", hive_conn_id=make_hive(schema_version=80).conn_id)
    assert (finding.level, finding.key) == ("error", "p.hive_conn_id")
    assert "schema version is 80" in finding.message


def test_a_missing_connection_is_an_error(lint_lookups: Callable[..., list[Finding]]) -> None:
    (finding,) = lint_lookups(analysis="event_dump_dna", hive_conn_id="nowhere")
    assert (finding.level, finding.key) == ("error", "p.hive_conn_id")
    assert "no connection of this name" in finding.message


def test_the_error_of_a_hive_that_hangs_hides_its_password(
    lint_lookups: Callable[..., list[Finding]],
) -> None:
    errors = lint_lookups(analysis="event_dump_dna", hive_uri="mysql://me:secret_word@127.0.0.1:1/hive")
    assert [(error.level, error.key) for error in errors] == [
        ("warning", "p.hive_uri"),
        ("error", "p.hive_uri"),
    ]
    assert "does not answer" in errors[1].message
    assert "secret_word" not in str(errors)
