"""Publishing reports on a real RabbitMQ."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from event_hooks.exceptions import ReportNotPublished
from event_hooks.reports import topology
from event_hooks.reports.hook import RabbitMQHook
from event_hooks.reports.report import Report

CONN_ID = "rabbitmq_test"
EVENT = {"type": "new_assembly", "genome": "homo_sapiens", "deep": {"é": [1, None]}}


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> Iterator[BlockingChannel]:
    """A channel of the test, separate from the channel of the hook."""
    monkeypatch.setenv("AIRFLOW_CONN_RABBITMQ_TEST", os.environ["RABBITMQ_URL"])
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"]))
    yield connection.channel()
    connection.close()


@pytest.fixture
def exchange(channel: BlockingChannel) -> Iterator[str]:
    """A new exchange, without queues."""
    name = f"test_{uuid4().hex}"
    topology.declare_topology(RabbitMQHook(CONN_ID), name, {})
    yield name
    channel.exchange_delete(name)


@pytest.fixture
def queues(channel: BlockingChannel, exchange: str) -> Iterator[dict[str, str]]:
    """New queues bound like those of the default topology: ``{default name: name}``."""
    names = {queue: f"{queue}_{exchange}" for queue in topology.QUEUES}
    bound = {names[queue]: pattern for queue, pattern in topology.QUEUES.items()}
    topology.declare_topology(RabbitMQHook(CONN_ID), exchange, bound)
    topology.declare_topology(RabbitMQHook(CONN_ID), exchange, bound)
    yield names
    for name in names.values():
        channel.queue_delete(name)


def build_report(report_type: str, key: str = "run/dump_dna/0") -> Report:
    fields: dict[str, Any] = {"report_type": report_type, "message": "Event succeeded: {}", "key": key}
    return Report(process="event_processing", resource="homo_sapiens", params=EVENT, **fields)


def test_a_report_arrives_as_consumers_expect_it(
    channel: BlockingChannel, exchange: str, queues: dict[str, str]
) -> None:
    report = build_report("INFO")
    list(RabbitMQHook(CONN_ID).publish([report], exchange))
    method, properties, body = channel.basic_get(queues["persistent_report"], auto_ack=True)
    assert method.routing_key == "report.info"
    assert (properties.delivery_mode, properties.content_type) == (2, "application/json")
    assert (properties.message_id, properties.app_id) == (report.message_id, "event_hooks")
    assert json.loads(body)["params"] == EVENT


def test_only_a_fatal_report_goes_to_the_mail_queue(
    channel: BlockingChannel, exchange: str, queues: dict[str, str]
) -> None:
    kinds = ["INFO", "FATAL", "WARN"]
    list(RabbitMQHook(CONN_ID).publish([build_report(kind) for kind in kinds], exchange))
    persistent = [channel.basic_get(queues["persistent_report"], auto_ack=True)[2] for _ in kinds]
    assert [json.loads(body)["report_type"] for body in persistent] == kinds
    assert json.loads(channel.basic_get(queues["email_report"], auto_ack=True)[2])["level"] == "FATAL"
    assert channel.basic_get(queues["email_report"])[0] is None


def test_an_unroutable_report_is_an_error(channel: BlockingChannel, exchange: str) -> None:
    with pytest.raises(ReportNotPublished, match=f"no queue takes 'report.info' from exchange '{exchange}'"):
        list(RabbitMQHook(CONN_ID).publish([build_report("INFO")], exchange))


def test_a_missing_exchange_is_an_error(channel: BlockingChannel) -> None:
    with pytest.raises(ReportNotPublished, match="NOT_FOUND - no exchange 'nowhere'"):
        list(RabbitMQHook(CONN_ID).publish([build_report("INFO")], "nowhere"))


def test_an_exchange_of_another_type_is_an_error(channel: BlockingChannel) -> None:
    name = f"test_{uuid4().hex}"
    channel.exchange_declare(name, "direct", durable=True)
    with pytest.raises(ReportNotPublished, match="inequivalent arg 'type'"):
        topology.declare_topology(RabbitMQHook(CONN_ID), name, {})
    channel.exchange_delete(name)


@pytest.mark.parametrize("source", ["connection", "setting"])
def test_the_error_of_a_wrong_password_hides_it(
    channel: BlockingChannel, exchange: str, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    address = os.environ["RABBITMQ_URL"].rpartition("@")[2]
    name = "AIRFLOW_CONN_RABBITMQ_TEST" if source == "connection" else "REPORT_SERVER"
    monkeypatch.setenv(name, f"amqp://some_user:secret_word@{address}")
    with pytest.raises(ReportNotPublished, match="ACCESS_REFUSED") as caught:
        list(RabbitMQHook(CONN_ID).publish([build_report("INFO")], exchange))
    assert "secret_word" not in str(caught.value)


def test_an_unreachable_broker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_RABBITMQ_TEST", "amqp://guest:guest@127.0.0.1:9/%2F")
    with pytest.raises(
        ReportNotPublished, match=r"RabbitMQ at 127.0.0.1:9, vhost '/'.* cannot be used.*start it"
    ):
        list(RabbitMQHook(CONN_ID).publish([build_report("INFO")], "report_exchange"))
