"""The output of `make demo`."""

from __future__ import annotations

import os

import pytest

from event_hooks.reports.hook import RabbitMQHook
from event_hooks.reports.listen import listen
from tests.support.system import System
from tools.demo import FAILING_EVENT, HIVE, SUCCEEDING_EVENT, show_event


def test_the_demo_shows_a_success_and_a_failure(
    system: System,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{HIVE.upper()}", system.installation.hives["hive_test"])
    monkeypatch.setenv("AIRFLOW_CONN_EVENT_LEDGER", system.airflow.ledger_url)
    succeeding = {**SUCCEEDING_EVENT, "genome": "demo_of_a_success"}
    failing = {**FAILING_EVENT, "type": "new_genebuild", "genome": "demo_of_a_failure"}
    monkeypatch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", os.environ["RABBITMQ_URL"])
    with listen(RabbitMQHook(), system.installation.exchange) as listener:
        assert show_event(system.runs, listener, succeeding) == ("success", ["report.info", "report.info"])
        assert show_event(system.runs, listener, failing) == ("failed", ["report.fatal"])
    output = capsys.readouterr().out
    assert "jobs done; wait: deferred" in output
    assert "complete; wait: success" in output
    assert "No space left on device" in output
