"""Sending the pending reports, on a real ledger and a real broker."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pika
import pytest
from sqlalchemy import select

from event_hooks.events.models import Event
from event_hooks.exceptions import ReportNotPublished, ReportRejected
from event_hooks.ledger import overview
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events
from event_hooks.ledger.records import NewEvent, PendingReport, ProgressUpdate, RunEvents, event_key
from event_hooks.ledger.reports import (
    count_pending_reports,
    count_rejected_reports,
    insert_reports,
    list_run_reports,
    store_reports,
)
from event_hooks.ledger.tables import report
from event_hooks.reports.builder import ReportBuilder
from event_hooks.reports.hook import RabbitMQHook
from event_hooks.reports.outbox import send_pending, send_pending_of_run, to_pending
from event_hooks.reports.publisher import Publisher

SECONDS = 60


def send_and_die(*, is_confirmation_read: bool) -> None:
    """Publish two of the pending reports, and kill this process when the broker has confirmed them."""
    publish = Publisher.publish

    def publish_and_die(publisher: Publisher, batch: Sequence[Any], exchange: str) -> None:
        publish(publisher, batch[:2], exchange)
        os.kill(os.getpid(), signal.SIGKILL)

    def die_at_second_report(_: Publisher, frame: Any) -> None:
        if frame.method.delivery_tag == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    Publisher.publish = publish_and_die
    if not is_confirmation_read:
        Publisher._on_answer = die_at_second_report
    send_pending(Ledger())


@pytest.mark.parametrize("ledger_server", ["postgresql", "mysql"], indirect=True)
@pytest.mark.parametrize("is_confirmation_read", [False, True], ids=["before the confirmation", "after it"])
def test_killing_a_sender_loses_no_report(ledger: Ledger, queue: str, *, is_confirmation_read: bool) -> None:
    """Each report is sent at least once, always with the same ``message_id``."""
    ids = [f"message-{number}" for number in range(3)]
    store_reports(ledger, [PendingReport(message_id, None, "run", "report.info", "{}") for message_id in ids])
    # A forked process has imported Airflow already, and has no connection to a server.
    sender = multiprocessing.get_context("fork").Process(
        target=send_and_die, kwargs={"is_confirmation_read": is_confirmation_read}
    )
    ledger.close()
    sender.start()
    sender.join(SECONDS)
    assert sender.exitcode == -signal.SIGKILL
    deadline, count = time.monotonic() + 10, 0
    while not count and time.monotonic() < deadline:
        count = send_pending(ledger)  # 0 until the database notices that the sender is dead
        time.sleep(0.1)
    assert count == 3
    assert drain_queue(queue) == [*ids[:2], *ids]


def bind_queue(queue: str, old: str, new: str) -> None:
    """Replace the binding of a queue to the exchange of the same name."""
    with RabbitMQHook().channel() as channel:
        channel.queue_unbind(queue, queue, old)
        channel.queue_bind(queue, queue, new)


def build_pending(name: str, kind: str = "info", event_id: int | None = None) -> PendingReport:
    return PendingReport(name, event_id, "run", f"report.{kind}", "{}")


def store_event(ledger: Ledger, name: str) -> int:
    """Store an event without a process, and return its id."""
    return accept_events(ledger, [NewEvent(event_key("t", name), "t", None, {}, "rest")], "run")[0].id


def test_reports_without_a_queue_do_not_hold_up_other_reports(ledger: Ledger, queue: str) -> None:
    ids = [f"m{number}" for number in range(250)]
    store_reports(ledger, [*map(build_pending, ids), build_pending("last", "fatal")])
    bind_queue(queue, "report.*", "report.fatal")
    with pytest.raises(ReportNotPublished, match="250 reports are not in a queue, .* no queue takes"):
        send_pending(ledger)
    assert (drain_queue(queue), count_pending_reports(ledger)) == (["last"], 250)
    assert (count_rejected_reports(ledger), overview.count_pending(ledger)["reports_rejected"]) == (250, 250)
    assert "no queue takes 'report.info'" in str(list_run_reports(ledger, "run")[0].rejected_reason)
    with pytest.raises(ReportNotPublished, match="bind one"):
        send_pending_of_run(ledger, "run")
    bind_queue(queue, "report.fatal", "report.*")
    assert send_pending(ledger) == 0  # their delay has not ended
    assert send_pending_of_run(ledger, "run") == 250
    assert drain_queue(queue) == ids
    assert {report.rejected_reason for report in list_run_reports(ledger, "run")} == {None}
    assert count_rejected_reports(ledger) == 0


def test_the_delay_of_a_returned_report_grows(ledger: Ledger, queue: str) -> None:
    store_reports(ledger, [build_pending("m0")])
    bind_queue(queue, "report.*", "report.fatal")
    delays = []
    for _ in range(8):
        with pytest.raises(ReportRejected):
            send_pending(ledger, run_id="run")
        (row,) = ledger.read(select(report.c.attempts, report.c.retry_at))
        delays.append(round((row.retry_at - datetime.now(UTC)).total_seconds(), -1))
    assert (row.attempts, delays) == (8, [10, 20, 40, 80, 160, 300, 300, 300])


@pytest.mark.parametrize("ledger_server", ["postgresql", "mysql"], indirect=True)
def test_an_open_transaction_that_stores_a_report_stops_no_sender(ledger: Ledger, queue: str) -> None:
    store_reports(ledger, [build_pending("m0")])
    with ledger.transaction() as connection:
        insert_reports(connection, [build_pending("m1")])
        assert send_pending(ledger) == 1
    assert drain_queue(queue) == ["m0"]
    assert send_pending(ledger) == 1


@pytest.mark.parametrize("ledger_server", ["postgresql", "mysql"], indirect=True)
def test_a_report_waits_for_an_earlier_report_of_its_event_that_another_sender_has_locked(
    ledger: Ledger, queue: str
) -> None:
    first, second = store_event(ledger, "1"), store_event(ledger, "2")
    store_reports(
        ledger,
        [
            build_pending("m0", event_id=first),
            build_pending("m1", event_id=first),
            build_pending("m2", event_id=second),
        ],
    )
    with ledger.transaction() as connection:
        connection.execute(select(report.c.id).where(report.c.message_id == "m0").with_for_update())
        assert send_pending(ledger) == 1
    assert drain_queue(queue) == ["m2"]
    assert send_pending(ledger) == 2
    assert drain_queue(queue) == ["m0", "m1"]


def test_a_progress_report_is_deleted_once_it_is_sent(ledger: Ledger, queue: str) -> None:
    event_id = store_event(ledger, "1")
    builder = ReportBuilder(RunEvents("run", {0: Event(type="t")}, {0: event_id}))
    reports = [
        builder.submitted(0, "dump", 7),
        builder.progress([0], "dump", 7, ProgressUpdate(event_id, 1, 2, 0)),
    ]
    store_reports(ledger, to_pending(reports, "run"))
    assert send_pending(ledger) == 2
    assert drain_queue(queue) == [item.message_id for item in reports]
    assert [row.message_id for row in ledger.read(select(report.c.message_id))] == [reports[0].message_id]


def drain_queue(queue: str) -> list[str]:
    """Remove all messages from a queue, and return their ids."""
    connection, message_ids = pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"])), []
    channel = connection.channel()
    while (message := channel.basic_get(queue, auto_ack=True))[0] is not None:
        message_ids.append(message[1].message_id)
    connection.close()
    return message_ids
