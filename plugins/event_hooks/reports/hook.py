"""Speak to the RabbitMQ that takes the reports."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pika
from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import amask_secret, mask_secret
from pika.exceptions import AMQPError, UnroutableError

from event_hooks import settings
from event_hooks.exceptions import ReportNotPublished

if TYPE_CHECKING:
    from pika.adapters.blocking_connection import BlockingChannel


class Message(Protocol):
    """What can be published: a report, or one that the ledger has kept."""

    @property
    def message_id(self) -> str:
        """The same for a repetition, and for no other message."""

    @property
    def routing_key(self) -> str:
        """As in report.info."""

    @property
    def body(self) -> str:
        """JSON."""


M = TypeVar("M", bound=Message)

# Pika tells twenty lines of each connection, whatever becomes of it; what goes wrong we say ourselves.
logging.getLogger("pika").setLevel(logging.CRITICAL)


class RabbitMQHook(BaseHook):
    """
    Publish reports, over a connection that is opened for each call and closed after it.

    :param rabbitmq_conn_id: an Airflow connection with host, port, login, password and, as its schema, the
        vhost. The setting ``report_server`` (an ``amqp://`` URI) goes before it.
    :param server: what :meth:`find_server` gave, inside a trigger, which must not block.
    """

    conn_name_attr = "rabbitmq_conn_id"
    default_conn_name = "rabbitmq_reports"
    hook_name = "RabbitMQ reports"

    def __init__(self, rabbitmq_conn_id: str = default_conn_name, server: Any = None) -> None:
        super().__init__()
        self.rabbitmq_conn_id = rabbitmq_conn_id
        self.server = server

    @classmethod
    async def find_server(cls, rabbitmq_conn_id: str = default_conn_name) -> Any:
        """
        Give the server's ``pika`` parameters.

        :raises ReportNotPublished: if Airflow has no such connection, or cannot give it now.
        """
        if uri := settings.report_server():
            server = pika.URLParameters(uri)
            await amask_secret(server.credentials.password)
            return _limited(server)
        try:
            return _limited(_from_connection(await Connection.async_get(rabbitmq_conn_id)))
        except AirflowNotFoundException as error:
            raise ReportNotPublished(f"no connection {rabbitmq_conn_id!r}: {error}") from error

    def publish(self, messages: Iterable[M], exchange: str) -> Iterator[M]:
        """
        Publish messages one after the other over one connection, and yield each once it is confirmed.

        Repeating it is harmless: each has the same ``message_id`` again.

        :raises ReportNotPublished: no broker, no exchange, or no queue that would take a message; those
            before it were published.
        """
        with self.channel() as channel:
            channel.confirm_delivery()
            for message in messages:
                _publish(channel, message, exchange)
                yield message

    @contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        """
        Open a channel and close it again.

        :raises ReportNotPublished: for what the broker, or the way to it, does not allow.
        """
        server = self._parameters()
        where = f"{server.host}:{server.port}, vhost {server.virtual_host!r}"
        try:
            connection = pika.BlockingConnection(server)
        except (AMQPError, OSError) as error:
            raise ReportNotPublished(f"RabbitMQ at {where} cannot be used: {error!r}") from error
        try:
            yield connection.channel()
        except UnroutableError as error:
            (returned,) = error.messages
            gone = (
                f"no queue takes {returned.method.routing_key!r} from exchange {returned.method.exchange!r}"
            )
            raise ReportNotPublished(f"RabbitMQ at {where}: {gone}: bind one") from error
        except (AMQPError, OSError) as error:
            raise ReportNotPublished(f"RabbitMQ at {where}: {error!r}") from error
        finally:
            with suppress(AMQPError, OSError):  # what is confirmed is confirmed
                connection.close()

    def get_conn(self) -> Any:
        """Open a plain ``pika.BlockingConnection``."""
        return pika.BlockingConnection(self._parameters())

    def _parameters(self) -> Any:
        if self.server:
            return self.server
        uri = settings.report_server()
        return _limited(
            _from_uri(uri) if uri else _from_connection(self.get_connection(self.rabbitmq_conn_id))
        )


def _publish(channel: BlockingChannel, message: Message, exchange: str) -> None:
    properties = pika.BasicProperties(
        content_type="application/json",
        delivery_mode=pika.DeliveryMode.Persistent.value,
        message_id=message.message_id,
        timestamp=int(time.time()),
        app_id="event_hooks",
    )
    channel.basic_publish(exchange, message.routing_key, message.body.encode(), properties, mandatory=True)


def _from_uri(uri: str) -> Any:
    server = pika.URLParameters(uri)
    mask_secret(server.credentials.password)
    return server


def _from_connection(connection: Connection) -> Any:
    return pika.ConnectionParameters(
        host=connection.host,
        port=connection.port or pika.ConnectionParameters.DEFAULT_PORT,
        virtual_host=connection.schema or "/",
        credentials=pika.PlainCredentials(connection.login or "guest", connection.password or "guest"),
    )


def _limited(server: Any) -> Any:
    seconds = settings.report_timeout()
    server.socket_timeout = server.stack_timeout = server.blocked_connection_timeout = seconds
    server.heartbeat = 60
    return server
