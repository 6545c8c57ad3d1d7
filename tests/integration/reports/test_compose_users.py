"""The vhosts and users of docker-compose.yaml, on a real RabbitMQ."""

from __future__ import annotations

import re
from pathlib import Path

import pika
import pika.exceptions
import pytest
import yaml

from event_hooks.exceptions import ReportNotPublished
from event_hooks.reports import topology
from event_hooks.reports.hook import RabbitMQHook
from event_hooks.reports.report import Report
from tests.integration.reports.conftest import OwnBroker
from tools import compose_env
from tools.airflow_services import CHECKOUT


@pytest.fixture(scope="module")
def passwords(broker: OwnBroker, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Those of a fresh .env, whose definitions the broker has taken."""
    values = compose_env.values()
    compose = yaml.safe_load((CHECKOUT / "docker-compose.yaml").read_text())
    text = re.sub(
        r"\$\{(\w+):\?\}",
        lambda found: values[found[1]],
        compose["configs"]["rabbitmq-definitions"]["content"],
    )
    file: Path = tmp_path_factory.mktemp("compose") / "definitions.json"
    file.write_text(text.replace("$$", "$"))
    broker.control("import_definitions", str(file))
    return values


def url(broker: OwnBroker, user: str, password: str, vhost: str) -> str:
    return f"amqp://{user}:{password}@127.0.0.1:{broker.port}/{vhost}"


@pytest.mark.parametrize(
    ("user", "name", "vhost", "is_let_in"),
    [
        ("celery", "CELERY", "celery", True),
        ("celery", "CELERY", "reports", False),
        ("event_hooks", "REPORTS", "reports", True),
        ("event_hooks", "REPORTS", "celery", False),
        ("event_hooks", "CELERY", "reports", False),
        ("admin", "RABBITMQ", "reports", True),
    ],
)
def test_each_user_has_a_vhost_of_its_own(
    broker: OwnBroker, passwords: dict[str, str], user: str, name: str, vhost: str, is_let_in: bool
) -> None:
    parameters = pika.URLParameters(url(broker, user, passwords[f"{name}_PASSWORD"], vhost))
    if is_let_in:
        pika.BlockingConnection(parameters).close()
    else:
        with pytest.raises(pika.exceptions.AMQPConnectionError):
            pika.BlockingConnection(parameters)


def test_the_user_of_the_reports_may_only_write_them(
    broker: OwnBroker, passwords: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPORT_SERVER", url(broker, "admin", passwords["RABBITMQ_PASSWORD"], "reports"))
    topology.declare(RabbitMQHook(), "report_exchange", topology.QUEUES)  # as set-up does
    monkeypatch.setenv("REPORT_SERVER", url(broker, "event_hooks", passwords["REPORTS_PASSWORD"], "reports"))
    report = Report(
        process="event_processing", resource=None, params={}, message="", report_type="INFO", key="1"
    )
    assert list(RabbitMQHook().publish([report], "report_exchange")) == [report]
    with pytest.raises(ReportNotPublished, match="ACCESS_REFUSED"):
        topology.declare(RabbitMQHook(), "another", {})
    with RabbitMQHook().channel() as channel, pytest.raises(pika.exceptions.ChannelClosedByBroker):
        channel.basic_get("persistent_report")
