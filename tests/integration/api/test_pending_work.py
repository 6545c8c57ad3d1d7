"""The API server sends pending reports, and requests maintenance; on a real ledger and a real broker."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.models.base import Base
from fastapi.testclient import TestClient
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError

from event_hooks.api import pending_work
from event_hooks.api.app import create_app
from event_hooks.api.pending_work import (
    MAINTENANCE_DAG_ID,
    PendingWorkMonitor,
    delete_old_runs,
    request_maintenance,
)
from event_hooks.ledger import database
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.reports import count_pending_reports, has_ready_reports, store_reports
from event_hooks.ledger.tables import event, report
from event_hooks.reports.hook import RabbitMQHook
from event_hooks.runtime import api_server
from tests.integration.ledger.test_sender import bind_queue, build_pending, drain_queue, store_event
from tools.ports import find_free_port

if TYPE_CHECKING:
    from tests.support.airflow_database import AirflowDatabase

SECONDS = 20


@asynccontextmanager
async def monitoring(
    ledger: Ledger, count: int = 1, request: Callable[[], None] = lambda: None
) -> AsyncIterator[None]:
    """Run monitors, as several processes of an API server do."""

    async def stop_jobs() -> None:
        """Stop nothing."""

    monitors = [PendingWorkMonitor(lambda: ledger, request, lambda: None, stop_jobs) for _ in range(count)]
    yield
    await asyncio.gather(*(monitor.close() for monitor in monitors))


async def wait_until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)


def store_in_another_process(name: str) -> None:
    ledger = Ledger()
    store_reports(ledger, [build_pending(name)])
    ledger.close()


@pytest.mark.parametrize("ledger_server", ["postgresql", "mysql"], indirect=True)
async def test_a_report_of_another_process_is_sent_within_a_second(ledger: Ledger, queue: str) -> None:
    fork = multiprocessing.get_context("fork")
    async with monitoring(ledger):
        for name in ("m0", "m1"):
            process = fork.Process(target=store_in_another_process, args=(name,))
            process.start()
            await asyncio.to_thread(process.join)
            assert process.exitcode == 0
            await wait_until(lambda name=name: drain_queue(queue) == [name], 1)
    assert count_pending_reports(ledger) == 0


def test_the_app_sends_reports_until_it_is_closed(ledger: Ledger, queue: str) -> None:
    with TestClient(create_app()):
        store_reports(ledger, [build_pending("m0")])
        deadline = time.monotonic() + 2
        while count_pending_reports(ledger) and time.monotonic() < deadline:
            time.sleep(0.05)
    store_reports(ledger, [build_pending("m1")])
    time.sleep(2 * pending_work.POLL_SECONDS)
    assert (drain_queue(queue), count_pending_reports(ledger)) == (["m0"], 1)


async def test_without_ready_reports_the_broker_is_not_used(
    ledger: Ledger, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report that the broker has returned is not ready until its delay has ended."""
    monkeypatch.setattr(pending_work, "POLL_SECONDS", 0.01)
    publish, count = RabbitMQHook.publish, []

    def count_and_publish(*arguments: Any) -> Any:
        count.append(1)
        return publish(*arguments)

    monkeypatch.setattr(RabbitMQHook, "publish", count_and_publish)
    async with monitoring(ledger):
        await asyncio.sleep(0.2)
        assert count == []
        bind_queue(queue, "report.*", "report.fatal")
        store_reports(ledger, [build_pending("m0")])
        await asyncio.sleep(0.5)
        assert (len(count), count_pending_reports(ledger), has_ready_reports(ledger)) == (1, 1, False)


async def test_an_unavailable_broker_is_logged_once_and_reports_are_sent_when_it_is_back(
    ledger: Ledger, queue: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pending_work, "MAX_RETRY_SECONDS", 0.05)
    load, loads = RabbitMQHook.load_parameters_async, []

    async def load_and_count() -> object:
        loads.append(1)
        return await load()

    monkeypatch.setattr(RabbitMQHook, "load_parameters_async", load_and_count)
    store_reports(ledger, [build_pending("m0")])
    async with monitoring(ledger):
        with monkeypatch.context() as patch:
            url = f"amqp://127.0.0.1:{find_free_port()}/%2F"
            patch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", url)
            await wait_until(lambda: len(loads) >= 3)
        await wait_until(lambda: count_pending_reports(ledger) == 0)
    assert caplog.text.count("Sending pending reports is retried: RabbitMQ at 127.0.0.1") == 1
    assert drain_queue(queue) == ["m0"]


async def test_an_error_of_the_ledger_is_logged_once_and_ends_no_poll(
    ledger: Ledger, queue: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pending_work, "MAX_RETRY_SECONDS", 0.05)
    store_reports(ledger, [build_pending("m0")])
    engine = database.build_engine()
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE report RENAME TO report_away"))
    async with monitoring(ledger):
        await wait_until(lambda: "Sending pending reports is retried: ledger" in caplog.text)
        await asyncio.sleep(0.3)
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE report_away RENAME TO report"))
        await wait_until(lambda: drain_queue(queue) == ["m0"])
    engine.dispose()
    assert caplog.text.count("Sending pending reports is retried") == 1


@pytest.mark.parametrize("ledger_server", ["postgresql", "mysql"], indirect=True)
async def test_several_monitors_send_each_report_once_and_those_of_an_event_in_order(
    ledger: Ledger, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending_work, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(pending_work, "MAX_REPORTS_PER_POLL", 7)
    event_ids = [store_event(ledger, str(number)) for number in range(10)]
    names = [(f"{number:03}", event_ids[number % 10]) for number in range(300)]
    async with monitoring(ledger, 3):
        for start in range(0, 300, 50):
            reports = [build_pending(name, event_id=event_id) for name, event_id in names[start : start + 50]]
            await asyncio.to_thread(store_reports, ledger, reports)
        await wait_until(lambda: count_pending_reports(ledger) == 0)
    sent = drain_queue(queue)
    assert Counter(sent) == Counter(name for name, _ in names)
    for event_id in event_ids:
        of_event = {name for name, other in names if other == event_id}
        assert [name for name in sent if name in of_event] == sorted(of_event)


@pytest.fixture
def requested(airflow_database: AirflowDatabase, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the requested runs; each of them is running."""
    run_ids: list[str] = []

    def trigger_run(dag_id: str, run_id: str, *_: Any) -> bool:
        try:
            airflow_database.add_run(run_id, dag_id=dag_id)
        except IntegrityError:
            return False
        run_ids.append(run_id)
        return True

    monkeypatch.setattr(api_server, "trigger_run", trigger_run)
    monkeypatch.setattr(pending_work, "MAINTENANCE_POLL_SECONDS", 0.05)
    monkeypatch.setattr(pending_work, "POLL_SECONDS", 3600.0)
    return run_ids


def make_older(ledger: Ledger, column: Any) -> None:
    with ledger.transaction() as connection:
        connection.execute(update(column.table).values({column: datetime.now(UTC) - timedelta(minutes=1)}))


async def test_maintenance_is_requested_once_by_several_monitors(
    ledger: Ledger, requested: list[str]
) -> None:
    store_event(ledger, "1")
    async with monitoring(ledger, 2, request_maintenance):
        await asyncio.sleep(0.5)
        assert requested == []  # the event is new
        make_older(ledger, event.c.received_at)
        await wait_until(lambda: requested)
        await asyncio.sleep(0.5)
    assert len(requested) == 1
    assert requested[0].startswith(f"pending__{datetime.now(UTC):%Y%m%dT%H}")


async def test_maintenance_is_requested_for_a_report_that_stays_pending(
    ledger: Ledger, requested: list[str]
) -> None:
    store_reports(ledger, [build_pending("m0")])
    make_older(ledger, report.c.created_at)
    async with monitoring(ledger, 1, request_maintenance):
        await wait_until(lambda: requested)


@pytest.mark.parametrize(
    ("state", "age", "is_requested"),
    [("queued", 600, False), ("running", 600, False), ("success", 5, False), ("failed", 600, True)],
)
def test_no_maintenance_is_requested_while_a_run_is_unfinished_or_recent(
    requested: list[str], airflow_database: AirflowDatabase, state: str, age: int, *, is_requested: bool
) -> None:
    created = datetime.now(UTC) - timedelta(seconds=age)
    airflow_database.add_run("process_event's", "running")
    airflow_database.add_run("old", state, dag_id=MAINTENANCE_DAG_ID, run_after=created)
    request_maintenance()
    assert bool(requested) is is_requested


async def test_an_error_of_airflow_stops_no_report(
    ledger: Ledger, queue: str, requested: list[str], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(pending_work, "POLL_SECONDS", 0.05)

    def fail() -> None:
        raise RuntimeError("the database of Airflow is unavailable")

    store_event(ledger, "1")
    make_older(ledger, event.c.received_at)
    async with monitoring(ledger, 1, fail):
        await wait_until(lambda: "Requesting maintain_ledger is retried: the database" in caplog.text)
        store_reports(ledger, [build_pending("m0")])
        await wait_until(lambda: drain_queue(queue) == ["m0"])


def test_old_finished_runs_of_maintenance_are_deleted(
    airflow_database: AirflowDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_server, "MAX_DELETED_RUNS", 2)
    old = datetime.now(UTC) - pending_work.RUN_RETENTION - timedelta(minutes=1)
    for run_id, state in {"s0": "success", "f1": "failed", "r2": "running", "s3": "success"}.items():
        airflow_database.add_run(run_id, state, dag_id=MAINTENANCE_DAG_ID, run_after=old)
    airflow_database.add_run("new", "success", dag_id=MAINTENANCE_DAG_ID)
    airflow_database.add_run("other", "success", run_after=old)
    delete_old_runs()
    assert airflow_database.list_run_ids() == ["r2", "s3", "new", "other"]
    for _ in range(2):
        delete_old_runs()
        assert airflow_database.list_run_ids() == ["r2", "new", "other"]


@pytest.mark.usefixtures("airflow_database")  # loads all models
def test_airflow_deletes_the_rows_that_refer_to_a_deleted_run() -> None:
    """The database of the test above has no foreign keys."""
    keys = [
        key
        for table in Base.metadata.tables.values()
        for key in table.foreign_key_constraints
        if key.referred_table.name in ("dag_run", "task_instance")
    ]
    assert "task_instance" in {key.table.name for key in keys}
    assert {str(key.ondelete).upper() for key in keys} <= {"CASCADE", "SET NULL"}
