"""Speak to the RabbitMQ that takes the reports."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pika
from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import amask_secret, mask_secret
from pika.adapters.blocking_connection import ReturnedMessage
from pika.exceptions import (
    AMQPError,
    ChannelClosedByBroker,
    ConnectionBlockedTimeout,
    NackError,
    UnroutableError,
)
from pika.spec import Basic

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

WINDOW = 200
"""Messages whose confirmations are waited for together."""

# Pika tells twenty lines of each connection, whatever becomes of it; what goes wrong we say ourselves.
logging.getLogger("pika").setLevel(logging.CRITICAL)


class RabbitMQHook(BaseHook):
    """
    Publish reports, over a connection that is opened for each call and closed after it.

    :param rabbitmq_conn_id: an Airflow connection with host, port, login, password and, as its schema, the
        vhost. Of type ``amqps``, or with ``{"ssl": true}`` in its extra, it is encrypted, and the server's
        certificate checked; ``ca_file``, ``cert_file`` and ``key_file`` there are paths.
        The setting ``report_server`` (an ``amqp://`` URI) goes before it.
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
        Publish messages in their order over one connection, and yield each once it is confirmed.

        Repeating it is harmless: each has the same ``message_id`` again.

        :raises ReportNotPublished: no broker, no exchange, or no queue that would take a message; what was
            not yielded is not known to be published.
        """
        with self.channel() as channel:
            _check(channel, exchange)
            window = Window(channel)
            mandatory = settings.report_unroutable()
            left = iter(messages)
            while some := list(islice(left, WINDOW)):
                for message in some:
                    window.expect(message)
                    _publish(channel, message, exchange, mandatory=mandatory)
                yield from window.confirmed()

    def check(self, exchange: str) -> None:
        """
        See that the broker takes us, and has the exchange; publishes nothing.

        :raises ReportNotPublished: it does not.
        """
        with self.channel() as channel:
            _check(channel, exchange)

    @contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        """
        Open a channel and close it again.

        :raises ReportNotPublished: for what the broker, or the way to it, does not allow; says what to do.
        """
        server = self._parameters()
        where = (
            f"RabbitMQ at {server.host}:{server.port}, vhost {server.virtual_host!r},"
            f" user {server.credentials.username!r}"
        )
        try:
            connection = pika.BlockingConnection(server)
        except (AMQPError, OSError) as error:
            raise ReportNotPublished(f"{where}: cannot be used: {error!r}{_advice(error)}") from error
        try:
            yield connection.channel()
        except (AMQPError, OSError) as error:
            raise ReportNotPublished(f"{where}: {_reason(error)}{_advice(error)}") from error
        finally:
            with suppress(AMQPError, OSError):  # what is confirmed is confirmed
                connection.close()

    def _parameters(self) -> Any:
        if self.server:
            return self.server
        uri = settings.report_server()
        return _limited(
            _from_uri(uri) if uri else _from_connection(self.get_connection(self.rabbitmq_conn_id))
        )


class Window:
    """
    The broker's answers to some messages at once: pika's blocking channel waits for each, 10,000 took 10 s.

    :param channel: nothing was published on it yet.
    """

    def __init__(self, channel: BlockingChannel) -> None:
        self._channel = channel
        self._tag = 0
        self._expected: dict[int, Message] = {}
        self._open: set[int] = set()
        self._refused: set[int] = set()
        self._returned: dict[str | None, ReturnedMessage] = {}
        channel._impl.confirm_delivery(self._answered)  # what it does for each message, without the wait
        channel.add_on_return_callback(self._came_back)

    def expect(self, message: Message) -> None:
        """Expect an answer to this message, which is published next."""
        self._tag += 1
        self._expected[self._tag] = message
        self._open.add(self._tag)

    def confirmed(self) -> Iterator[Any]:
        """
        Wait for all answers, and yield the messages that are confirmed and in a queue, in their order.

        :raises UnroutableError: after these, for the first that no queue took.
        :raises NackError: after these, if a queue refused one.
        """
        seconds = settings.report_timeout()
        until = (
            time.monotonic() + 2 * seconds
        )  # the limit for a blocked connection comes first, and says more
        while self._open and self._channel.is_open:
            if time.monotonic() > until:
                raise TimeoutError(f"{len(self._open)} messages were not confirmed in {2 * seconds:g} s")
            self._channel.connection.process_data_events(0.005)
        missing = self._open | self._refused
        expected, self._expected = self._expected, {}
        for tag, message in expected.items():
            if tag not in missing and message.message_id not in self._returned:
                yield message
        if self._open:
            raise self._channel._closing_reason or ConnectionError("the channel was closed")
        if self._returned:
            raise UnroutableError(list(self._returned.values())[:1])
        if self._refused:
            raise NackError([])

    def _answered(self, frame: Any) -> None:
        tag = frame.method.delivery_tag
        tags = {one for one in self._open if one <= tag} if frame.method.multiple else {tag}
        self._open -= tags
        if isinstance(frame.method, Basic.Nack):
            self._refused |= tags

    def _came_back(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._returned[properties.message_id] = ReturnedMessage(method, properties, body)


_ADVICE = (
    (ConnectionBlockedTimeout, "", "it has a memory or disk alarm: see `rabbitmqctl alarms`"),
    (Exception, "ACCESS_REFUSED - Login", "correct user or password of the connection rabbitmq_reports"),
    (Exception, "ACCESS_REFUSED", "allow it to this user: rabbitmqctl set_permissions"),
    (Exception, "NOT_ALLOWED", "there is no such vhost, or this user may not use it: rabbitmqctl add_vhost"),
    (Exception, "no exchange", "declare it: python -m event_hooks.reports.topology"),
    (
        Exception,
        "inequivalent arg 'type'",
        "set [event_hooks] report_exchange_type to its type, or delete the exchange and declare it anew",
    ),
    (
        UnroutableError,
        "",
        "bind one: python -m event_hooks.reports.topology (or set [event_hooks] report_unroutable = accept)",
    ),
    (NackError, "", "a queue is full, or cannot store: see its policy and the broker's log"),
    (ssl.SSLError, "", "check the certificate, and ca_file in the connection's extra"),
    (
        Exception,
        "ConnectionRefusedError",
        "start it, or correct host and port; what is owed is sent once it answers",
    ),
    (Exception, "gaierror", "correct the host of the connection rabbitmq_reports"),
)
"""What to do about an error of this class, with this text in it; the first that fits."""


def _advice(error: Exception) -> str:
    text = repr(error) + repr(error.__cause__)
    fits = (f": {advice}" for kind, part, advice in _ADVICE if isinstance(error, kind) and part in text)
    return next(fits, "")


def _reason(error: Exception) -> str:
    if not isinstance(error, UnroutableError):
        return repr(error)
    returned = error.messages[0]
    return f"no queue takes {returned.method.routing_key!r} from exchange {returned.method.exchange!r}"


def _check(channel: BlockingChannel, exchange: str) -> None:
    """
    See that an exchange is there, and of the type of the settings; makes none.

    The type is told only to those who may configure it (a passive declaration does not compare it, seen on
    RabbitMQ 3.10); for others it is not looked at.
    """
    channel.exchange_declare(exchange, passive=True)
    try:
        apart = channel.connection.channel()
        apart.exchange_declare(exchange, settings.report_exchange_type(), durable=True)
        apart.close()
    except ChannelClosedByBroker as error:
        if "inequivalent arg 'type'" in error.reply_text:
            raise


def _publish(channel: BlockingChannel, message: Message, exchange: str, *, mandatory: bool) -> None:
    properties = pika.BasicProperties(
        content_type="application/json",
        delivery_mode=pika.DeliveryMode.Persistent.value,
        message_id=message.message_id,
        timestamp=int(time.time()),
        app_id="event_hooks",
    )
    channel.basic_publish(exchange, message.routing_key, message.body.encode(), properties, mandatory)


def _from_uri(uri: str) -> Any:
    server = pika.URLParameters(uri)
    mask_secret(server.credentials.password)
    return server


def _from_connection(connection: Connection) -> Any:
    extra = connection.extra_dejson
    is_safe = connection.conn_type == "amqps" or bool(extra.get("ssl"))
    return pika.ConnectionParameters(
        host=connection.host,
        port=connection.port or pika.ConnectionParameters._DEFAULT,  # which depends on TLS
        virtual_host=connection.schema or "/",
        credentials=pika.PlainCredentials(connection.login or "guest", connection.password or "guest"),
        ssl_options=_tls(connection.host, extra) if is_safe else None,
    )


def _tls(host: str | None, extra: Mapping[str, Any]) -> pika.SSLOptions:
    """Check the server's certificate, by ``ca_file`` if given; show ours if ``cert_file`` is given."""
    context = ssl.create_default_context(cafile=extra.get("ca_file"))
    if cert_file := extra.get("cert_file"):
        context.load_cert_chain(cert_file, extra.get("key_file"))
    return pika.SSLOptions(context, host)


def _limited(server: Any) -> Any:
    seconds = settings.report_timeout()
    server.socket_timeout = server.stack_timeout = server.blocked_connection_timeout = seconds
    server.heartbeat = 60
    return server
