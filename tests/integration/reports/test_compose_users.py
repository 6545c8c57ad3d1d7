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
from tests.integration.reports.conftest import SeparateBroker
from tools import compose_env
from tools.airflow_services import CHECKOUT


@pytest.fixture(scope="module")
def passwords(broker: SeparateBroker, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The passwords of a new .env file, whose definitions the broker has imported."""
    values = compose_env.generate_values()
    compose = yaml.safe_load((CHECKOUT / "docker-compose.yaml").read_text())
    text = re.sub(
        r"\$\{(\w+):\?[^}]*\}",
        lambda match: values[match[1]],
        compose["configs"]["rabbitmq-definitions"]["content"],
    )
    file: Path = tmp_path_factory.mktemp("compose") / "definitions.json"
    file.write_text(text.replace("$$", "$"))
    broker.control("import_definitions", str(file))
    return values


def build_url(broker: SeparateBroker, user: str, password: str, vhost: str) -> str:
    return f"amqp://{user}:{password}@127.0.0.1:{broker.port}/{vhost}"


@pytest.mark.parametrize(
    ("user", "name", "vhost", "is_permitted"),
    [
        ("celery", "CELERY", "celery", True),
        ("celery", "CELERY", "reports", False),
        ("event_hooks", "REPORTS", "reports", True),
        ("event_hooks", "REPORTS", "celery", False),
        ("event_hooks", "CELERY", "reports", False),
        ("admin", "RABBITMQ", "reports", True),
    ],
)
def test_each_user_has_its_own_vhost(
    broker: SeparateBroker, passwords: dict[str, str], user: str, name: str, vhost: str, is_permitted: bool
) -> None:
    parameters = pika.URLParameters(build_url(broker, user, passwords[f"{name}_PASSWORD"], vhost))
    if is_permitted:
        pika.BlockingConnection(parameters).close()
    else:
        with pytest.raises(pika.exceptions.AMQPConnectionError):
            pika.BlockingConnection(parameters)


def test_the_reports_user_has_write_permission_only(
    broker: SeparateBroker, passwords: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPORT_SERVER", build_url(broker, "admin", passwords["RABBITMQ_PASSWORD"], "reports"))
    topology.declare_topology(RabbitMQHook(), "report_exchange", topology.QUEUES)  # like the service set-up
    monkeypatch.setenv(
        "REPORT_SERVER", build_url(broker, "event_hooks", passwords["REPORTS_PASSWORD"], "reports")
    )
    report = Report(
        process="event_processing", resource=None, params={}, message="", report_type="INFO", key="1"
    )
    assert list(RabbitMQHook().publish([report], "report_exchange")) == [report]
    RabbitMQHook().check_exchange("report_exchange")
    refusal = "access to exchange 'report_exchange' in vhost 'reports' refused"
    assert (broker.folder / "log").read_text().count(refusal) == 1
    with pytest.raises(ReportNotPublished, match="ACCESS_REFUSED"):
        topology.declare_topology(RabbitMQHook(), "another", {})
    with RabbitMQHook().channel() as channel, pytest.raises(pika.exceptions.ChannelClosedByBroker):
        channel.basic_get("persistent_report")
