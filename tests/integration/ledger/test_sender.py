"""Killing a process that sends reports, on a real ledger and a real broker."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from typing import Any

import pika
import pytest

from event_hooks.ledger.database import Ledger
from event_hooks.ledger.records import PendingReport
from event_hooks.ledger.reports import store_reports
from event_hooks.reports.outbox import send_pending
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


def drain_queue(queue: str) -> list[str]:
    """Remove all messages from a queue, and return their ids."""
    connection, message_ids = pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"])), []
    channel = connection.channel()
    while (message := channel.basic_get(queue, auto_ack=True))[0] is not None:
        message_ids.append(message[1].message_id)
    connection.close()
    return message_ids
