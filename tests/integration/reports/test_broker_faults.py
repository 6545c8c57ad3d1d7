"""What a broker can do to reports, on a RabbitMQ of this module's own: faults, limits and TLS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest

from event_hooks.exceptions import ReportNotPublished
from event_hooks.reports import listen, topology
from event_hooks.reports.hook import WINDOW, RabbitMQHook
from event_hooks.reports.report import Report
from tests.integration.reports.conftest import OwnBroker

EXCHANGE = "report_exchange"
QUEUE = "persistent_report"
HIGH, LOW = "0.8", "0.0000001"


@pytest.fixture
def hook(broker: OwnBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[RabbitMQHook]:
    """A hook to it, with the exchange and queues declared, and empty."""
    monkeypatch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", broker.url)
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__REPORT_TIMEOUT", "2")
    hook = RabbitMQHook()
    topology.declare(hook, EXCHANGE, topology.QUEUES)
    yield hook
    with hook.channel() as channel:
        channel.queue_purge(QUEUE)
        channel.queue_purge("email_report")


def reports(count: int) -> list[Report]:
    return [
        Report(
            process="event_processing", resource=None, params={}, message="é", report_type="INFO", key=str(n)
        )
        for n in range(count)
    ]


def heard(hook: RabbitMQHook) -> list[str]:
    """Give the message ids in the queue, which is empty then."""
    found = []
    with hook.channel() as channel:
        while (answer := channel.basic_get(QUEUE, auto_ack=True))[0] is not None:
            found.append(answer[1].message_id)
    return found


def test_a_thousand_reports_take_less_than_a_second(hook: RabbitMQHook) -> None:
    """For each of them, waiting for its confirmation alone would take a millisecond."""
    began = time.monotonic()
    count = sum(1 for _ in hook.publish(reports(2000), EXCHANGE))
    seconds = time.monotonic() - began
    print(f"2,000 reports in {seconds:.1f} s")
    assert count == 2000
    assert seconds < 2


def test_a_connection_that_the_broker_closes_keeps_what_is_confirmed(
    hook: RabbitMQHook, broker: OwnBroker
) -> None:
    sent: list[str] = []

    def publish() -> None:
        for report in hook.publish(reports(WINDOW + 3), EXCHANGE):
            sent.append(report.message_id)
            if len(sent) == 1:
                broker.control("close_all_connections", "for a test")

    with pytest.raises(ReportNotPublished, match="CONNECTION_FORCED"):
        publish()
    assert heard(hook) == sent == [report.message_id for report in reports(WINDOW)]


def test_publishing_to_a_broker_with_an_alarm_times_out(
    hook: RabbitMQHook, broker: OwnBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.control("set_vm_memory_high_watermark", LOW)
    try:
        began = time.monotonic()
        with monkeypatch.context() as patch:
            patch.setenv("AIRFLOW__EVENT_HOOKS__REPORT_TIMEOUT", "1")
            with pytest.raises(
                ReportNotPublished, match="it has a memory or disk alarm: see `rabbitmqctl alarms`"
            ):
                list(hook.publish(reports(3), EXCHANGE))
        assert time.monotonic() - began < 5
    finally:
        broker.control("set_vm_memory_high_watermark", HIGH)
    assert len(list(hook.publish(reports(3), EXCHANGE))) == 3


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda url: url.replace("event_hooks:", "somebody:"), "correct user or password of the connection"),
        (lambda url: url.replace("%2F", "elsewhere"), "there is no such vhost, or this user may not use it"),
    ],
)
def test_what_to_do_is_said(
    hook: RabbitMQHook,
    broker: OwnBroker,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[str], str],
    part: str,
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", change(broker.url))
        with pytest.raises(ReportNotPublished, match=part) as caught:
            list(hook.publish(reports(1), EXCHANGE))
    assert broker.password not in str(caught.value)


def test_a_missing_exchange_and_a_missing_queue_say_how_to_declare_them(hook: RabbitMQHook) -> None:
    with pytest.raises(ReportNotPublished, match=r"python -m event_hooks\.reports\.topology"):
        list(hook.publish(reports(1), "nowhere"))
    with hook.channel() as channel:
        channel.exchange_declare("unheard", "topic", durable=True)
    with pytest.raises(ReportNotPublished, match=r"no queue takes 'report\.info' .*topology"):
        list(hook.publish(reports(1), "unheard"))


def test_a_report_that_nobody_hears_can_be_accepted(
    hook: RabbitMQHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__REPORT_UNROUTABLE", "accept")
    with hook.channel() as channel:
        channel.exchange_declare("unheard", "topic", durable=True)
    assert len(list(hook.publish(reports(2), "unheard"))) == 2


def test_an_exchange_of_another_type_says_what_to_set(hook: RabbitMQHook) -> None:
    with hook.channel() as channel:
        channel.exchange_declare("straight", "direct", durable=True)
    with pytest.raises(ReportNotPublished, match=r"set \[event_hooks\] report_exchange_type to its type"):
        topology.declare(hook, "straight", {})
    with pytest.raises(ReportNotPublished, match=r"set \[event_hooks\] report_exchange_type to its type"):
        list(hook.publish(reports(1), "straight"))


def test_a_user_who_may_only_write_can_report(
    hook: RabbitMQHook, broker: OwnBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.control("add_user", "writer", "a_word")
    broker.control("set_permissions", "writer", "", EXCHANGE, "")
    with monkeypatch.context() as patch:
        url = f"amqp://writer:a_word@127.0.0.1:{broker.port}/%2F"
        patch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", url)
        assert len(list(hook.publish(reports(2), EXCHANGE))) == 2
        with pytest.raises(ReportNotPublished, match="allow it to this user: rabbitmqctl set_permissions"):
            topology.declare(hook, "another", {})
    broker.control("delete_user", "writer")


def test_reports_go_over_tls_to_a_server_that_is_the_right_one(
    hook: RabbitMQHook, broker: OwnBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"amqps://{broker.user}:{broker.password}@127.0.0.1:{broker.tls_port}/%2F"
    trusted = f"{url}?ca_file={quote(str(broker.certificate), safe='')}"
    with monkeypatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", trusted)
        assert len(list(hook.publish(reports(2), EXCHANGE))) == 2
        patch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", url)
        with pytest.raises(ReportNotPublished, match="check the certificate, and ca_file"):
            list(hook.publish(reports(1), EXCHANGE))


def test_listening_ends_when_no_report_comes(
    hook: RabbitMQHook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["listen", "--seconds", "0.2"])
    assert listen.main() == 0
    assert capsys.readouterr() == ("", "Listening …\n")


def test_reports_are_printed_without_taking_them_from_a_queue(hook: RabbitMQHook, broker: OwnBroker) -> None:
    # Background processes ignore SIGINT, also in what they start
    command = ["env", "--default-signal=INT", sys.executable, "-m", "event_hooks.reports.listen"]
    command += ["--genome", "b", "--level", "WARN"]
    environment = {**os.environ, "PYTHONPATH": "plugins"}
    listener = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert listener.stderr
    assert listener.stdout
    assert listener.stderr.readline() == "Listening …\n"
    told = [
        Report(
            process="p", resource=genome, params={}, message=f"{genome} {kind}", report_type=kind, key=genome
        )
        for genome in "ab"
        for kind in ("INFO", "FATAL")
    ]
    assert len(list(hook.publish(told, EXCHANGE))) == 4
    line = listener.stdout.readline()  # of the last report, and the only one
    assert line.rstrip().split("  ")[1:] == ["FATAL", "b", "b FATAL"]
    listener.send_signal(signal.SIGINT)
    assert (listener.communicate(timeout=30)[0], listener.returncode) == ("", 0)
    assert len(heard(hook)) == 4
