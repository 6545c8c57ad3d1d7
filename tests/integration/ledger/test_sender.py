"""A sender of reports that is killed, on a real ledger and a real broker."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pika
import pytest

from event_hooks.ledger.ledger import Ledger
from event_hooks.ledger.records import OwedReport
from event_hooks.reports.outbox import send_owed

KILLED = """
import os, signal
from event_hooks.ledger.ledger import Ledger
from event_hooks.reports import hook
from event_hooks.reports.outbox import send_owed

publish, sent = hook._publish, []

def publish_and_die(channel, message, exchange, **given):
    sent.append(message)
    if len(sent) == 2 and {early}:
        channel._impl.basic_publish(exchange, message.routing_key, message.body.encode(),
            hook.pika.BasicProperties(message_id=message.message_id))
        channel.connection.process_data_events(0)  # it is on its way; nobody has read the confirmation
        os.kill(os.getpid(), signal.SIGKILL)
    publish(channel, message, exchange, **given)
    if len(sent) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

hook._publish = publish_and_die
send_owed(Ledger())
"""


@pytest.mark.parametrize("server", ["postgresql", "mysql"], indirect=True)
@pytest.mark.parametrize("early", [True, False], ids=["before the confirmation", "after it"])
def test_a_sender_that_is_killed_loses_no_report(ledger: Ledger, queue: str, *, early: bool) -> None:
    """At least once, each time with the same ``message_id``."""
    ids = [f"message-{n}" for n in range(3)]
    ledger.owe([OwedReport(one, None, "run", "report.info", "{}") for one in ids])
    program = [sys.executable, "-c", KILLED.replace("{early}", str(early))]
    environment = {**os.environ, "PYTHONPATH": "plugins"}
    killed = subprocess.run(program, env=environment, check=False, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    until, count = time.monotonic() + 10, 0
    while not count and time.monotonic() < until:
        count = send_owed(ledger)  # the database has yet to notice that the sender is gone
        time.sleep(0.1)
    assert count == 3
    assert heard(queue) == [*ids[:2], *ids]


def heard(queue: str) -> list[str]:
    """Give the message ids in a queue, which is empty then."""
    connection, found = pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"])), []
    channel = connection.channel()
    while (answer := channel.basic_get(queue, auto_ack=True))[0] is not None:
        found.append(answer[1].message_id)
    connection.close()
    return found
