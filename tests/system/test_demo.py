"""What `make demo` shows."""

from __future__ import annotations

import os

import pytest

from event_hooks.reports.hook import RabbitMQHook
from event_hooks.reports.listen import ear
from tests.support.system import System
from tools.demo import BAD, GOOD, HIVE, show


def test_the_demo_shows_a_success_and_a_failure(
    system: System,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{HIVE.upper()}", system.installation.hives["hive_test"])
    good = {**GOOD, "genome": "demo_of_a_success"}
    bad = {**BAD, "type": "new_genebuild", "genome": "demo_of_a_failure"}
    monkeypatch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", os.environ["RABBITMQ_URL"])
    with ear(RabbitMQHook(), system.installation.exchange) as heard:
        assert show(system.runs, heard, good) == ("success", ["report.info", "report.info"])
        assert show(system.runs, heard, bad) == ("failed", ["report.fatal"])
    shown = capsys.readouterr().out
    assert "jobs done; wait: deferred" in shown
    assert "complete; wait: success" in shown
    assert "No space left on device" in shown
