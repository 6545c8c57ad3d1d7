"""The task of `maintain_ledger`, on a real ledger."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from event_hooks import metrics
from event_hooks.exceptions import ReportNotPublished
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events
from event_hooks.ledger.processes import store_plan
from event_hooks.ledger.records import NewEvent, PendingReport, run_event_key
from event_hooks.ledger.reports import store_reports
from event_hooks.ledger.tables import event, high_water_mark
from event_hooks.maintain_ledger import maintenance
from tests.support.task_instances import RunOfTasks
from tools.ports import find_free_port


def maintain() -> None:
    maintenance.maintain(RunOfTasks("run", {}, {}).build_context("maintain"))


def add_old_event(ledger: Ledger, run_id: str) -> None:
    """Store a finished event that is older than the retention."""
    accept_events(ledger, [NewEvent(run_event_key(run_id, 0), "t", None, {"type": "t"}, "test")], run_id)
    store_plan(ledger, run_id)
    with ledger.transaction() as connection:
        connection.execute(update(event).values(received_at=datetime.now(UTC) - timedelta(days=500)))


def count_events(ledger: Ledger) -> int:
    return len(ledger.read(select(event.c.id)))


def set_last_pruning(ledger: Ledger, age: timedelta) -> None:
    with ledger.transaction() as connection:
        connection.execute(update(high_water_mark).values(position=datetime.now(UTC) - age))


def test_old_rows_are_pruned_once_an_hour_at_any_minute(ledger: Ledger) -> None:
    add_old_event(ledger, "first")
    maintain()
    assert count_events(ledger) == 0
    add_old_event(ledger, "second")
    maintain()
    set_last_pruning(ledger, timedelta(minutes=58))
    maintain()
    assert count_events(ledger) == 1
    set_last_pruning(ledger, timedelta(minutes=61))
    maintain()
    assert count_events(ledger) == 0
    add_old_event(ledger, "third")
    maintain()
    assert count_events(ledger) == 1


def test_a_last_pruning_in_the_future_prevents_no_pruning(ledger: Ledger) -> None:
    """The clock of the database server was corrected."""
    maintain()
    set_last_pruning(ledger, timedelta(hours=-100))
    add_old_event(ledger, "first")
    maintain()
    assert count_events(ledger) == 0


def test_an_unavailable_broker_prevents_no_gauge_and_no_pruning(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    gauges: dict[str, float] = {}

    def set_gauge(name: str, value: float, **_: Any) -> None:
        gauges[name] = value

    monkeypatch.setattr(metrics, "is_enabled", lambda: True)
    monkeypatch.setattr(metrics, "set_gauge", set_gauge)
    url = f"amqp://127.0.0.1:{find_free_port()}/%2F"
    monkeypatch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", url)
    store_reports(ledger, [PendingReport("m0", None, "run", "report.info", "{}")])
    add_old_event(ledger, "first")
    with pytest.raises(ReportNotPublished):
        maintain()
    assert (gauges["reports_pending"], count_events(ledger)) == (1, 0)
