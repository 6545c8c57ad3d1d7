"""A queue that receives all reports of an exchange from its creation on."""

from __future__ import annotations

import json
import os
from typing import Any
from uuid import uuid4

import pika
import pika.exceptions

EXPIRES_MS = 30 * 60 * 1000
"""RabbitMQ removes the queue when it has not been read for this long."""


class ReportQueue:
    """
    The reports of one exchange, for one process.

    :param exchange: a topic exchange.
    """

    def __init__(self, exchange: str) -> None:
        self._name = f"{exchange}_{uuid4().hex[:12]}"
        self._received: list[dict[str, Any]] = []
        self._channel = self._open()
        self._channel.queue_declare(self._name, durable=True, arguments={"x-expires": EXPIRES_MS})
        self._channel.queue_bind(self._name, exchange, "report.*")

    def read(self) -> list[dict[str, Any]]:
        """Return all reports so far, each with its ``routing_key`` and ``message_id``."""
        try:
            self._drain()
        except pika.exceptions.AMQPError:  # the broker was restarted, or missed heartbeats
            self._channel = self._open()
            self._drain()
        return self._received

    def close(self) -> None:
        """Delete the queue."""
        self._channel = self._open()
        self._channel.queue_delete(self._name)
        self._channel.connection.close()

    def _drain(self) -> None:
        while True:
            method, properties, body = self._channel.basic_get(self._name, auto_ack=True)
            if method is None:
                return
            envelope = {"routing_key": method.routing_key, "message_id": properties.message_id}
            self._received.append({**json.loads(body), **envelope})

    @staticmethod
    def _open() -> Any:
        return pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"])).channel()
