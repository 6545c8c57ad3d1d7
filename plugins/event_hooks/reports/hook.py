"""The Airflow hook of the RabbitMQ broker that receives the reports."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pika
from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import amask_secret, mask_secret
from more_itertools import chunked
from pika.exceptions import (
    ChannelClosedByBroker,
    ConnectionBlockedTimeout,
    NackError,
    UnroutableError,
)

from event_hooks import settings, tls
from event_hooks.database_url import check_address
from event_hooks.exceptions import ReportNotPublished, ReportRejected
from event_hooks.reports.publisher import BROKER_ERRORS, M, Publisher

if TYPE_CHECKING:
    from pika.adapters.blocking_connection import BlockingChannel

MAX_UNCONFIRMED_MESSAGES = 200
"""Messages that are published before waiting for their confirmations."""

HEARTBEAT_SECONDS = 60

# Pika logs about twenty lines for each connection, also after a success; errors are logged by our callers.
logging.getLogger("pika").setLevel(logging.CRITICAL)


class RabbitMQHook(BaseHook):
    """
    Publish reports, over one connection for each call.

    :param rabbitmq_conn_id: an Airflow connection with host, port, login, password, and the vhost as its
        schema. With the type ``amqps``, or ``{"ssl": true}`` in its extra, the connection uses TLS and checks
        the server's certificate, unless ``verify`` is false; ``ca_file``, ``cert_file`` and ``key_file`` in
        the extra are paths, which require TLS as well.
        The setting ``report_server`` (an ``amqp://`` URI) takes precedence.
    :param parameters: the result of :meth:`load_parameters_async`, for a trigger, which must not block.
    """

    conn_name_attr = "rabbitmq_conn_id"
    default_conn_name = "rabbitmq_reports"
    hook_name = "RabbitMQ reports"

    def __init__(self, rabbitmq_conn_id: str = default_conn_name, parameters: Any = None) -> None:
        super().__init__()
        self.rabbitmq_conn_id = rabbitmq_conn_id
        self.parameters = parameters

    @classmethod
    async def load_parameters_async(cls, rabbitmq_conn_id: str = default_conn_name) -> Any:
        """
        Return the server's connection parameters for ``pika``.

        :raises ReportNotPublished: Airflow does not have the connection, or it is invalid.
        """
        if uri := settings.report_server():
            parameters = pika.URLParameters(uri)
            await amask_secret(parameters.credentials.password)
            return _set_timeouts(parameters)
        try:
            return _set_timeouts(_parameters_from_connection(await Connection.async_get(rabbitmq_conn_id)))
        except AirflowNotFoundException as error:
            raise ReportNotPublished(f"no connection {rabbitmq_conn_id!r}: {error}") from error

    def publish(self, messages: Iterable[M], exchange: str) -> Iterator[M]:
        """
        Publish messages in order over one connection, and yield each message after its confirmation.

        It can be repeated: a repetition has the same ``message_id``, by which consumers recognise it.

        :raises ReportRejected: after all other messages, if the broker returned messages because they have no
            queue, or rejected them.
        :raises ReportNotPublished: the broker is unavailable, does not answer for the setting
            ``report_timeout``, or has no such exchange; messages that were not yielded may or may not be
            published.
        """
        parameters = self._load_parameters()
        rejections: dict[str, Exception] = {}
        with _translated_errors(parameters), Publisher(parameters) as publisher:
            publisher.check_exchange(exchange)
            for batch in chunked(messages, MAX_UNCONFIRMED_MESSAGES):
                answers = publisher.publish(batch, exchange)
                yield from answers.confirmed
                rejections |= answers.rejections
                if answers.failure:
                    raise answers.failure
        if rejections:
            reasons = {message_id: _explain_rejection(error) for message_id, error in rejections.items()}
            raise ReportRejected(
                f"{_describe_server(parameters)}: {len(rejections)} reports are not in a queue, the first"
                f" because {next(iter(reasons.values()))}",
                reasons,
            )

    def check_exchange(self, exchange: str) -> None:
        """
        Check that the broker accepts this user and has the exchange; publishes nothing.

        :raises ReportNotPublished: it does not.
        """
        parameters = self._load_parameters()
        with _translated_errors(parameters), Publisher(parameters) as publisher:
            publisher.check_exchange(exchange)

    @contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        """
        Open a channel, and close it with its connection.

        :raises ReportNotPublished: for errors of the broker or the network, with advice; also for those
            inside the ``with`` block.
        """
        parameters = self._load_parameters()
        with _translated_errors(parameters):
            connection = pika.BlockingConnection(parameters)
            try:
                yield connection.channel()
            finally:
                with suppress(*BROKER_ERRORS):
                    connection.close()

    def _load_parameters(self) -> Any:
        if self.parameters:
            return self.parameters
        if uri := settings.report_server():
            return _set_timeouts(_parameters_from_uri(uri))
        return _set_timeouts(_parameters_from_connection(self.get_connection(self.rabbitmq_conn_id)))


_ADVICE = (
    (ConnectionBlockedTimeout, "", "it has a memory or disk alarm: see `rabbitmqctl alarms`"),
    (Exception, "ACCESS_REFUSED - Login", "correct user or password of the connection rabbitmq_reports"),
    (Exception, "ACCESS_REFUSED", "allow it to this user: rabbitmqctl set_permissions"),
    (Exception, "NOT_ALLOWED", "there is no such vhost, or this user may not use it: rabbitmqctl add_vhost"),
    (Exception, "no exchange", "declare it: python -m event_hooks.reports.topology"),
    (
        Exception,
        "inequivalent arg 'type'",
        "set [event_hooks] report_exchange_type to its type, or delete the exchange and declare it again",
    ),
    (
        UnroutableError,
        "",
        "bind one: python -m event_hooks.reports.topology (or set [event_hooks] report_unroutable = accept)",
    ),
    (NackError, "", "a queue is full, or cannot store: see its policy and the broker's log"),
    (Exception, "larger than", "increase max_message_size in the broker's rabbitmq.conf"),
    (ssl.SSLError, "", "check the certificate, and ca_file in the connection's extra"),
    (
        Exception,
        "ConnectionRefusedError",
        "start it, or correct host and port; pending reports are sent when it is available",
    ),
    (Exception, "gaierror", "correct the host of the connection rabbitmq_reports"),
)
"""(class of an error, part of its text, advice); the first match applies."""


def _find_advice(error: Exception) -> str:
    text = repr(error) + repr(error.__cause__)
    matches = (
        f": {advice}"
        for error_class, part, advice in _ADVICE
        if isinstance(error, error_class) and part in text
    )
    return next(matches, "")


@contextmanager
def _translated_errors(parameters: Any) -> Iterator[None]:
    try:
        yield
    except BROKER_ERRORS as error:
        server = _describe_server(parameters)
        raise ReportNotPublished(f"{server} cannot be used: {error!r}{_find_advice(error)}") from error


def _describe_server(parameters: Any) -> str:
    return (
        f"RabbitMQ at {parameters.host}:{parameters.port}, vhost {parameters.virtual_host!r},"
        f" user {parameters.credentials.username!r}"
    )


def _explain_rejection(error: Exception) -> str:
    if isinstance(error, UnroutableError):
        method = error.messages[0].method
        reason = f"no queue takes {method.routing_key!r} from exchange {method.exchange!r}"
    elif isinstance(error, ChannelClosedByBroker):
        reason = f"the broker rejected it: {error.reply_text}"
    else:
        reason = "it was rejected"
    return reason + _find_advice(error)


def _parameters_from_uri(uri: str) -> Any:
    parameters = pika.URLParameters(uri)
    mask_secret(parameters.credentials.password)
    return parameters


def _parameters_from_connection(connection: Connection) -> Any:
    """
    Return the parameters of a connection.

    :raises ReportNotPublished: its address or extra is invalid.
    """
    try:
        return _build_parameters(connection)
    except (ValueError, OSError) as error:  # OSError: a file of the extra
        raise ReportNotPublished(f"connection {connection.conn_id!r}: {error}") from error


_TLS_EXTRAS = ("ssl", "verify", "ca_file", "cert_file", "key_file")


def _build_parameters(connection: Connection) -> Any:
    check_address(connection)
    extra = connection.extra_dejson
    tls.check_tls_extras(extra, _TLS_EXTRAS)
    port = {"port": connection.port} if connection.port else {}  # pika's default depends on TLS
    has_files = any(extra.get(name) for name in _TLS_EXTRAS[2:])
    uses_tls = connection.conn_type == "amqps" or tls.parse_flag("ssl", extra.get("ssl", has_files))
    return pika.ConnectionParameters(
        host=connection.host,
        **port,
        virtual_host=connection.schema or "/",
        credentials=pika.PlainCredentials(connection.login or "guest", connection.password or "guest"),
        ssl_options=_build_ssl_options(connection.host, extra) if uses_tls else None,
    )


def _build_ssl_options(host: str | None, extra: Mapping[str, Any]) -> pika.SSLOptions:
    """Return options that check the server's certificate, and send a client certificate if there is one."""
    context = ssl.create_default_context(cafile=extra.get("ca_file"))
    if not tls.parse_flag("verify", extra.get("verify", True)):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if cert_file := extra.get("cert_file"):
        context.load_cert_chain(cert_file, extra.get("key_file"))
    return pika.SSLOptions(context, host)


def _set_timeouts(parameters: Any) -> Any:
    seconds = settings.report_timeout()
    parameters.socket_timeout = parameters.stack_timeout = seconds
    parameters.blocked_connection_timeout = seconds
    parameters.heartbeat = HEARTBEAT_SECONDS
    return parameters
