"""Faults and limits of the broker, and TLS, on a separate RabbitMQ."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from event_hooks.exceptions import ReportNotPublished, ReportRejected
from event_hooks.reports import listen, publisher, topology
from event_hooks.reports.hook import MAX_UNCONFIRMED_MESSAGES, RabbitMQHook
from event_hooks.reports.report import Report
from tests.integration.reports.conftest import SeparateBroker

EXCHANGE = "report_exchange"
QUEUE = "persistent_report"
MAX_MESSAGE_BYTES = 65_536
HIGH, LOW = "0.8", "0.0000001"


@pytest.fixture
def hook(broker: SeparateBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[RabbitMQHook]:
    """A hook of the separate broker, with the exchange and empty queues."""
    monkeypatch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", broker.url)
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__REPORT_TIMEOUT", "2")
    hook = RabbitMQHook()
    topology.declare_topology(hook, EXCHANGE, topology.QUEUES)
    yield hook
    with hook.channel() as channel:
        channel.queue_purge(QUEUE)
        channel.queue_purge("email_report")


def build_reports(count: int) -> list[Report]:
    return [
        Report(
            process="event_processing",
            resource=None,
            params={},
            message="é",
            report_type="INFO",
            key=str(number),
        )
        for number in range(count)
    ]


def drain_queue(hook: RabbitMQHook) -> list[str]:
    """Remove all messages from the queue, and return their ids."""
    message_ids = []
    with hook.channel() as channel:
        while (message := channel.basic_get(QUEUE, auto_ack=True))[0] is not None:
            message_ids.append(message[1].message_id)
    return message_ids


def test_two_thousand_reports_take_less_than_two_seconds(hook: RabbitMQHook) -> None:
    """Waiting for the confirmation of each report separately would take a millisecond per report."""
    start = time.monotonic()
    count = sum(1 for _ in hook.publish(build_reports(2000), EXCHANGE))
    seconds = time.monotonic() - start
    print(f"2,000 reports in {seconds:.1f} s")
    assert count == 2000
    assert seconds < 2


def test_an_unroutable_report_at_the_end_of_a_batch_is_never_taken_for_sent(hook: RabbitMQHook) -> None:
    with hook.channel() as channel:
        channel.exchange_declare("without_warnings", "topic", durable=True)
        channel.queue_bind(QUEUE, "without_warnings", "report.info")
    reports = build_reports(5)
    reports[-1] = reports[-1].model_copy(update={"report_type": "WARN"})
    for _ in range(100):
        with pytest.raises(ReportNotPublished, match=r"no queue takes 'report\.warn'"):
            list(hook.publish(reports, "without_warnings"))


def test_reports_after_a_returned_or_rejected_report_are_published(hook: RabbitMQHook) -> None:
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    with hook.channel() as channel:
        channel.exchange_declare("partly_full", "topic", durable=True)
        channel.queue_declare("full", arguments=full)
        channel.queue_bind("full", "partly_full", "report.warn")
        channel.queue_bind(QUEUE, "partly_full", "report.info")
    kinds = ["WARN", "WARN", "DEBUG", "INFO"]
    reports = [
        report.model_copy(update={"report_type": kind})
        for report, kind in zip(build_reports(4), kinds, strict=True)
    ]
    published = hook.publish(reports, "partly_full")
    assert [next(published), next(published)] == [reports[0], reports[3]]
    with pytest.raises(ReportRejected, match="2 reports are not in a queue, the first because"):
        next(published)


@pytest.fixture
def hook_of_small_broker(hook: RabbitMQHook, broker: SeparateBroker) -> Iterator[RabbitMQHook]:
    """A hook of the separate broker, which rejects messages of more than 64 KiB meanwhile."""
    broker.control("eval", f"application:set_env(rabbit, max_message_size, {MAX_MESSAGE_BYTES}).")
    yield hook
    broker.control("eval", "application:unset_env(rabbit, max_message_size).")
    publisher._MAX_BYTES.clear()


@pytest.mark.parametrize("positions", [{0}, {249}, {1, 2, 100}], ids=str)
def test_a_report_above_the_limit_of_the_broker_is_shortened(
    hook_of_small_broker: RabbitMQHook, positions: set[int]
) -> None:
    reports = build_reports(250)
    for position in positions:
        reports[position] = reports[position].model_copy(update={"message": f"Event: {'é' * 40_000}"})
    assert list(hook_of_small_broker.publish(reports, EXCHANGE)) == reports
    assert set(drain_queue(hook_of_small_broker)) == {report.message_id for report in reports}
    # Its limit is known now, so nothing is published twice
    assert list(hook_of_small_broker.publish(reports, EXCHANGE)) == reports
    assert drain_queue(hook_of_small_broker) == [report.message_id for report in reports]


def test_a_report_that_the_broker_never_takes_does_not_hold_up_others(
    hook_of_small_broker: RabbitMQHook,
) -> None:
    reports = build_reports(5)
    reports[2] = reports[2].model_copy(update={"process": "x" * 70_000})  # no value that can be shortened
    published = hook_of_small_broker.publish(reports, EXCHANGE)
    assert [next(published) for _ in range(4)] == [*reports[:2], *reports[3:]]
    with pytest.raises(
        ReportRejected, match="1 reports are not in a queue, .* increase max_message"
    ) as error:
        next(published)
    assert list(error.value.reasons) == [reports[2].message_id]
    assert set(drain_queue(hook_of_small_broker)) == {report.message_id for report in reports} - set(
        error.value.reasons
    )


def test_confirmed_reports_survive_a_closed_connection(hook: RabbitMQHook, broker: SeparateBroker) -> None:
    sent: list[str] = []

    def publish() -> None:
        for report in hook.publish(build_reports(MAX_UNCONFIRMED_MESSAGES + 3), EXCHANGE):
            sent.append(report.message_id)
            if len(sent) == 1:
                broker.control("close_all_connections", "for a test")

    with pytest.raises(ReportNotPublished, match="CONNECTION_FORCED"):
        publish()
    assert (
        drain_queue(hook) == sent == [report.message_id for report in build_reports(MAX_UNCONFIRMED_MESSAGES)]
    )


def test_a_broker_that_stops_answering_is_left_after_the_timeout(
    hook: RabbitMQHook, broker: SeparateBroker
) -> None:
    published = hook.publish(build_reports(MAX_UNCONFIRMED_MESSAGES + 1), EXCHANGE)
    next(published)
    with broker.suspended():
        start = time.monotonic()
        with pytest.raises(ReportNotPublished, match="no answer in 2 s"):
            list(published)
        assert time.monotonic() - start < 3


def test_connecting_to_a_broker_that_does_not_answer_times_out(
    hook: RabbitMQHook, broker: SeparateBroker
) -> None:
    with broker.suspended():
        start = time.monotonic()
        with pytest.raises(ReportNotPublished, match="cannot be used: .*Timeout while setting up AMQP"):
            list(hook.publish(build_reports(1), EXCHANGE))
        assert time.monotonic() - start < 3


def test_publishing_to_a_broker_with_an_alarm_times_out(
    hook: RabbitMQHook, broker: SeparateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.control("set_vm_memory_high_watermark", LOW)
    try:
        start = time.monotonic()
        with monkeypatch.context() as patch:
            patch.setenv("AIRFLOW__EVENT_HOOKS__REPORT_TIMEOUT", "1")
            with pytest.raises(
                ReportNotPublished, match="it has a memory or disk alarm: see `rabbitmqctl alarms`"
            ):
                list(hook.publish(build_reports(3), EXCHANGE))
        assert time.monotonic() - start < 5
    finally:
        broker.control("set_vm_memory_high_watermark", HIGH)
    assert len(list(hook.publish(build_reports(3), EXCHANGE))) == 3


@pytest.mark.parametrize(
    ("change_url", "message"),
    [
        (lambda url: url.replace("event_hooks:", "some_user:"), "correct user or password of the connection"),
        (lambda url: url.replace("%2F", "elsewhere"), "there is no such vhost, or this user may not use it"),
    ],
)
def test_the_error_of_a_rejected_login_names_the_fix(
    hook: RabbitMQHook,
    broker: SeparateBroker,
    monkeypatch: pytest.MonkeyPatch,
    change_url: Callable[[str], str],
    message: str,
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", change_url(broker.url))
        with pytest.raises(ReportNotPublished, match=message) as caught:
            list(hook.publish(build_reports(1), EXCHANGE))
    assert broker.password not in str(caught.value)


def test_errors_of_a_missing_exchange_or_queue_name_the_fix(hook: RabbitMQHook) -> None:
    with pytest.raises(ReportNotPublished, match=r"python -m event_hooks\.reports\.topology"):
        list(hook.publish(build_reports(1), "nowhere"))
    with hook.channel() as channel:
        channel.exchange_declare("unheard", "topic", durable=True)
    with pytest.raises(ReportNotPublished, match=r"no queue takes 'report\.info' .*topology"):
        list(hook.publish(build_reports(1), "unheard"))


def test_an_unroutable_report_can_be_accepted(hook: RabbitMQHook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__REPORT_UNROUTABLE", "accept")
    with hook.channel() as channel:
        channel.exchange_declare("unheard", "topic", durable=True)
    assert len(list(hook.publish(build_reports(2), "unheard"))) == 2


def test_the_error_of_another_exchange_type_names_the_setting(hook: RabbitMQHook) -> None:
    with hook.channel() as channel:
        channel.exchange_declare("straight", "direct", durable=True)
    with pytest.raises(ReportNotPublished, match=r"set \[event_hooks\] report_exchange_type to its type"):
        topology.declare_topology(hook, "straight", {})
    with pytest.raises(ReportNotPublished, match=r"set \[event_hooks\] report_exchange_type to its type"):
        list(hook.publish(build_reports(1), "straight"))


def test_a_user_with_write_permission_only_can_publish(
    hook: RabbitMQHook, broker: SeparateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.control("add_user", "writer", "a_word")
    broker.control("set_permissions", "writer", "", EXCHANGE, "")
    with monkeypatch.context() as patch:
        url = f"amqp://writer:a_word@127.0.0.1:{broker.port}/%2F"
        patch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", url)
        assert len(list(hook.publish(build_reports(2), EXCHANGE))) == 2
        with pytest.raises(ReportNotPublished, match="allow it to this user: rabbitmqctl set_permissions"):
            topology.declare_topology(hook, "another", {})
    broker.control("delete_user", "writer")


def test_reports_are_sent_by_tls_to_a_verified_server(
    hook: RabbitMQHook, broker: SeparateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"amqps://{broker.user}:{broker.password}@127.0.0.1:{broker.tls_port}/%2F"
    trusted = f"{url}?ca_file={quote(str(broker.certificate), safe='')}"
    with monkeypatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", trusted)
        assert len(list(hook.publish(build_reports(2), EXCHANGE))) == 2
        patch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", url)
        with pytest.raises(ReportNotPublished, match="check the certificate, and ca_file"):
            list(hook.publish(build_reports(1), EXCHANGE))


def test_listening_ends_after_its_timeout(
    hook: RabbitMQHook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["listen", "--seconds", "0.2"])
    assert listen.main() == 0
    assert capsys.readouterr() == ("", "Listening …\n")


def test_listening_takes_no_report_from_a_queue(hook: RabbitMQHook, broker: SeparateBroker) -> None:
    # Background processes ignore SIGINT, and so do their children.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "event_hooks.reports.listen"]
    command += ["--genome", "b", "--level", "WARN"]
    environment = {**os.environ, "PYTHONPATH": "plugins"}
    listener = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert listener.stderr
    assert listener.stdout
    assert listener.stderr.readline() == "Listening …\n"
    published = [
        Report(
            process="p", resource=genome, params={}, message=f"{genome} {kind}", report_type=kind, key=genome
        )
        for genome in "ab"
        for kind in ("INFO", "FATAL")
    ]
    assert len(list(hook.publish(published, EXCHANGE))) == 4
    line = listener.stdout.readline()  # the line of the last report, the only one printed
    assert line.rstrip().split("  ")[1:] == ["FATAL", "b", "b FATAL"]
    listener.send_signal(signal.SIGINT)
    assert (listener.communicate(timeout=30)[0], listener.returncode) == ("", 0)
    assert len(drain_queue(hook)) == 4


def connect_with_extra(
    broker: SeparateBroker, monkeypatch: pytest.MonkeyPatch, port: int, extra: dict[str, Any]
) -> None:
    """Open a connection to a port of the broker, with this extra."""
    fields = {"host": broker.host, "port": port, "login": broker.user, "password": broker.password}
    connection = {"conn_type": "amqp", **fields, "schema": "/", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", json.dumps(connection))
    with RabbitMQHook().channel():
        pass


def test_a_connection_that_asks_for_tls_fails_without_it(
    broker: SeparateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = str(broker.certificate)
    for extra in ({"ssl": True}, {"ssl": "true"}, {"ca_file": certificate}, {"ssl": True, "verify": False}):
        with pytest.raises(ReportNotPublished):
            connect_with_extra(broker, monkeypatch, broker.port, extra)


def test_the_extra_determines_whether_the_certificate_is_verified(
    broker: SeparateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ReportNotPublished, match="check the certificate"):
        connect_with_extra(broker, monkeypatch, broker.tls_port, {"ssl": "true"})
    for extra in ({"ca_file": str(broker.certificate)}, {"ssl": "yes", "verify": "false"}):
        connect_with_extra(broker, monkeypatch, broker.tls_port, extra)
    connect_with_extra(broker, monkeypatch, broker.port, {"ssl": "false"})


@pytest.mark.parametrize(
    ("extra", "name"),
    [({"ssl_ca": "x"}, "ssl_ca"), ({"ssl": "maybe"}, "ssl"), ({"ssl": True, "verify": "perhaps"}, "verify")],
    ids=str,
)
def test_an_unknown_extra_about_tls_is_named(
    broker: SeparateBroker, monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], name: str
) -> None:
    with pytest.raises(ReportNotPublished, match=f"extra {name}: "):
        connect_with_extra(broker, monkeypatch, broker.tls_port, extra)
