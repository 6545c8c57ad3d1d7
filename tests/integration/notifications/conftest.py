"""Servers that notifiers send to: a mail server and an HTTP server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from tests.support.json_server import JsonServer, run_json_server
from tools.ports import find_free_port

SMTP = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"
HTTP = "airflow.providers.http.notifications.http.HttpNotifier"

MAIL = {"class": SMTP, "arguments": {"to": ["a@b"]}, "on": ["failed", "stalled", "late"]}
WEBHOOK = {
    "class": HTTP,
    "arguments": {"http_conn_id": "webhook", "endpoint": "hook", "json": {"message": ["{subject}"]}},
    "on": ["failed", "late"],
}


class MailServer:
    """
    An SMTP server on 127.0.0.1.

    :ivar mails: those that it has accepted.
    :ivar answer: to the content of each mail; 250 accepts it.
    """

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.answer = "250 accepted"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 (aiosmtpd's name)
        """Accept or reject a mail."""
        if self.answer.startswith("250"):
            self.mails.append(BytesParser(policy=default).parsebytes(envelope.content))
        return self.answer


@pytest.fixture
def mail_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    """A mail server, at the connection ``smtp_default``."""
    server, port = MailServer(), find_free_port()
    extra = {"disable_ssl": True, "disable_tls": True, "from_email": "c@d", "retry_limit": 1}
    connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
    controller = Controller(server, hostname="127.0.0.1", port=port)
    controller.start()
    yield server
    controller.stop()


@pytest.fixture
def web_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JsonServer]:
    """A web server, at the connection ``webhook``."""
    with run_json_server() as server:
        monkeypatch.setenv("AIRFLOW_CONN_WEBHOOK", f"http://127.0.0.1:{server.server_port}")
        yield server


def set_notifiers(monkeypatch: pytest.MonkeyPatch, *notifiers: dict[str, Any]) -> None:
    """Set the setting ``notifiers``."""
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__NOTIFIERS", json.dumps(notifiers))
