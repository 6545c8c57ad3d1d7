"""The writer of an event loop, on a real ledger and a real broker."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import select, text

from event_hooks.exceptions import LedgerRejected, LedgerValueRejected, ReportNotPublished
from event_hooks.ledger import database
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.records import PendingReport
from event_hooks.ledger.reports import count_pending_reports, store_reports
from event_hooks.ledger.tables import event, report
from event_hooks.process_event import ledger_writer as writer_module
from event_hooks.process_event.ledger_writer import get_ledger_writer
from event_hooks.reports import sender as sender_module
from event_hooks.reports.hook import RabbitMQHook
from tests.integration.ledger.test_sender import drain_queue
from tools.ports import find_free_port

SECONDS = 20

pytestmark = pytest.mark.parametrize("ledger_server", ["postgresql", "mysql"], indirect=True)


def build_pending(name: str) -> list[PendingReport]:
    return [PendingReport(name, None, "run", "report.info", "{}")]


def list_events(ledger: Ledger) -> object:
    return ledger.read(select(event.c.id))


@contextmanager
def renamed_report_table() -> Iterator[None]:
    """Rename the table of the reports, so that they cannot be stored."""
    with database.build_engine().begin() as connection:
        connection.execute(text("ALTER TABLE report RENAME TO report_away"))
    yield
    with database.build_engine().begin() as connection:
        connection.execute(text("ALTER TABLE report_away RENAME TO report"))


async def test_operations_run_in_order_and_their_reports_are_sent(ledger: Ledger, queue: str) -> None:
    writer, names = get_ledger_writer(), [f"m{number}" for number in range(20)]
    assert writer is get_ledger_writer()
    operations = [
        writer.write(lambda target, name=name: store_reports(target, build_pending(name))) for name in names
    ]
    await asyncio.wait_for(asyncio.gather(*operations), SECONDS)
    sent: list[str] = []
    for _ in range(SECONDS * 10):
        sent += drain_queue(queue)
        if sent == names and count_pending_reports(ledger) == 0:
            break
        await asyncio.sleep(0.1)
    assert sent == names
    assert count_pending_reports(ledger) == 0


async def test_an_operation_that_fails_does_not_block_the_next(ledger: Ledger, queue: str) -> None:
    writer = get_ledger_writer()

    def fail(_: Ledger) -> None:
        raise KeyError("a fault of ours")

    invalid_report = PendingReport(None, None, "run", "report.info", "{}")  # type: ignore[arg-type]
    first, second = writer.write(fail), writer.write(lambda target: store_reports(target, [invalid_report]))
    third = writer.write(lambda target: store_reports(target, build_pending("m1")))
    await asyncio.wait_for(third, SECONDS)
    assert isinstance(first.exception(), KeyError)
    assert isinstance(second.exception(), LedgerRejected)


async def test_an_operation_is_retried_until_the_ledger_is_available(
    ledger: Ledger, queue: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "MAX_RETRY_SECONDS", 0.05)
    writer = get_ledger_writer()
    await asyncio.wait_for(writer.write(lambda target: store_reports(target, build_pending("m0"))), SECONDS)
    with renamed_report_table():
        operation = writer.write(lambda target: store_reports(target, build_pending("m1")))
        async with asyncio.timeout(SECONDS):
            while caplog.text.count("1 operations pending, retry in") < 2:
                await asyncio.sleep(0.02)
        assert not operation.done()
    await asyncio.wait_for(operation, SECONDS)


async def test_an_operation_that_the_ledger_rejects_for_too_long_fails_with_the_reason(
    ledger: Ledger, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "MAX_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(writer_module, "MAX_REJECTION_SECONDS", 0.1)
    writer = get_ledger_writer()
    with renamed_report_table():
        operation = writer.write(lambda target: store_reports(target, build_pending("m1")))
        with pytest.raises(LedgerRejected, match="rejected the request: .*report"):
            await asyncio.wait_for(operation, SECONDS)
    await asyncio.wait_for(writer.write(lambda target: store_reports(target, build_pending("m2"))), SECONDS)


async def test_a_row_longer_than_a_packet_is_rejected_at_once(
    ledger: Ledger, ledger_server: str, queue: str
) -> None:
    if ledger_server == "postgresql":
        reports = [PendingReport("m1", None, "run", "report.info", "x" * 2**24)]
        await asyncio.wait_for(
            get_ledger_writer().write(lambda target: store_reports(target, reports)), SECONDS
        )
        return
    ((limit,),) = ledger.read(text("SELECT @@max_allowed_packet"))
    reports = [PendingReport("m1", None, "run", "report.info", "x" * limit)]
    with pytest.raises(LedgerValueRejected, match="longer than max_allowed_packet"):
        await asyncio.wait_for(
            get_ledger_writer().write(lambda target: store_reports(target, reports)), SECONDS
        )


async def test_an_operation_that_always_fails_does_not_block_operations_of_other_keys(
    ledger: Ledger, queue: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "MAX_FAILURES", 2)
    writer = get_ledger_writer()
    with renamed_report_table():
        failing = [
            writer.write(lambda target, name=name: store_reports(target, build_pending(name)), key="a")
            for name in ("m0", "m1")
        ]
        await asyncio.wait_for(writer.write(list_events, key="b"), SECONDS)
        async with asyncio.timeout(SECONDS):
            while "retry in 4 s" not in caplog.text:
                await asyncio.sleep(0.02)
        await asyncio.wait_for(writer.write(list_events, key="b"), 2)
        assert not any(operation.done() for operation in failing)
    await asyncio.wait_for(asyncio.gather(*failing), SECONDS)
    assert [item.message_id for item in ledger.read(select(report).order_by(report.c.id))] == ["m0", "m1"]


async def test_a_broker_that_does_not_answer_delays_no_operation(
    ledger: Ledger, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = get_ledger_writer()
    with socket.create_server(("127.0.0.1", 0)) as server, monkeypatch.context() as patch:
        url = f"amqp://127.0.0.1:{server.getsockname()[1]}/%2F"
        patch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", url)
        patch.setenv("AIRFLOW__EVENT_HOOKS__REPORT_TIMEOUT", "5")
        await asyncio.wait_for(writer.write(lambda target: store_reports(target, build_pending("m0"))), 2)
        connection, _ = await asyncio.to_thread(server.accept)
        await asyncio.wait_for(writer.write(list_events), 2)
        connection.close()


async def test_the_connection_to_the_broker_is_loaded_again_only_after_an_error(
    ledger: Ledger, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each load is a request to the supervisor of the triggerer, which answers few requests per second."""
    load, loads = RabbitMQHook.load_parameters_async, []

    async def load_and_count() -> object:
        loads.append(1)
        return await load()

    monkeypatch.setattr(RabbitMQHook, "load_parameters_async", load_and_count)
    store_reports(ledger, build_pending("m0"))
    with ThreadPoolExecutor(1) as thread:
        sender = sender_module.ReportSender()
        for _ in range(3):
            await sender(thread, ledger)
        assert (len(loads), drain_queue(queue)) == (1, ["m0"])
        store_reports(ledger, build_pending("m1"))
        with monkeypatch.context() as patch:
            patch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", f"amqp://127.0.0.1:{find_free_port()}/%2F")
            patch.setattr(sender_module, "CONNECTION_SECONDS", -1.0)
            with pytest.raises(ReportNotPublished):
                await sender(thread, ledger)
        await sender(thread, ledger)
        assert (len(loads), drain_queue(queue)) == (3, ["m1"])
