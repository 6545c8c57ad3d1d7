"""Publish messages to RabbitMQ, and read its answer to each of them."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.blocking_connection import ReturnedMessage
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorException,
    AMQPConnectorPhaseErrorBase,
)
from pika.exceptions import (
    AMQPError,
    ChannelClosedByBroker,
    ConnectionBlockedTimeout,
    NackError,
    UnroutableError,
)
from pika.spec import Basic

from event_hooks import settings
from event_hooks.reports.shortening import shorten_body

if TYPE_CHECKING:
    from pika.channel import Channel

BROKER_ERRORS = (AMQPError, AMQPConnectorException, OSError)
"""Errors of the broker and the network."""

CLOSE_SECONDS = 1.0
"""The longest wait for the broker's answer to the end of a connection."""

ACCESS_REFUSED = 403
"""Reply code of a broker that refuses an operation to a user."""

PRECONDITION_FAILED = 406
"""Reply code of a broker that closes a channel because of one message, such as one that is too large."""

_MAX_BYTES: dict[tuple[str, int], int] = {}
"""``{(host, port): bytes of the largest message}`` of the brokers that have rejected a larger one."""

_REFUSED: set[tuple[str, int, str, str, str]] = set()
"""(host, port, user, vhost, exchange) for which the broker has refused to tell the type of the exchange."""


class Message(Protocol):
    """A message to publish: a new report, or a pending report of the ledger."""

    @property
    def message_id(self) -> str:
        """Only a repetition of the message has the same id."""

    @property
    def routing_key(self) -> str:
        """As in report.info."""

    @property
    def body(self) -> str:
        """JSON."""


M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Answers(Generic[M]):
    """The broker's answers to a batch of messages."""

    confirmed: Sequence[M]
    """Messages that are in a queue, in the order of their publication."""

    rejections: Mapping[str, Exception]
    """``{message_id: error}`` of the messages that the broker returned or rejected."""

    failure: Exception | None
    """Why there are messages without an answer; they may or may not be in a queue."""


class Publisher:
    """
    A connection and a channel, on which the broker answers each message.

    RabbitMQ returns an unroutable message before it confirms it, and pika's asynchronous connection calls the
    callbacks in this order. Pika's blocking connection has no timeout for a confirmation, and waits for each
    message separately: 10,000 messages take 6 s instead of 1 s.

    Use it in a ``with`` block, in a thread without a running event loop. All methods raise
    :data:`BROKER_ERRORS`, and wait for an answer for at most the setting ``report_timeout``.
    """

    def __init__(self, parameters: Any) -> None:
        self._parameters = parameters
        self._runner = asyncio.Runner()
        self._last_tag = 0
        self._unanswered: dict[int, Message] = {}
        """``{delivery tag: message}``."""

        self._confirmed_ids: set[str] = set()
        """Ids of the messages of the present batch that are in a queue."""

        self._rejections: dict[str, Exception] = {}
        """``{message id: error}`` of the present batch."""

        self._is_blocked = False
        self._is_hanging = False

    def __enter__(self) -> Self:
        """Connect."""
        self._failure = self._create_future()
        self._closed = self._create_future()
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """Close the connection; an error while closing does not undo a confirmation."""
        self._close()

    def check_exchange(self, exchange: str) -> None:
        """
        Check that an exchange exists and has the type of the settings; creates no exchange.

        A passive declaration does not compare the type (seen on RabbitMQ 3.10), and another one needs the
        permission to configure the exchange: without it, the type is not checked. The broker logs an error
        about that, so this process asks only once.
        """
        declared = self._create_future()
        self._channel.exchange_declare(exchange, passive=True, callback=lambda _: _resolve(declared))
        self._wait(declared)
        parameters = self._parameters
        user, vhost = parameters.credentials.username, parameters.virtual_host
        access = (parameters.host, parameters.port, user, vhost, exchange)
        if access in _REFUSED:
            return
        # An error closes the channel, so the type is checked on a channel of its own.
        checked = self._create_future()
        channel = self._open_channel(checked)
        exchange_type = settings.report_exchange_type()
        channel.exchange_declare(exchange, exchange_type, durable=True, callback=lambda _: _resolve(checked))
        error = self._wait(checked)
        if isinstance(error, ChannelClosedByBroker) and "inequivalent arg 'type'" in error.reply_text:
            raise error
        if isinstance(error, ChannelClosedByBroker) and error.reply_code == ACCESS_REFUSED:
            _REFUSED.add(access)

    def publish(self, batch: Sequence[M], exchange: str) -> Answers[M]:
        """
        Publish messages, and wait for an answer to each of them.

        After a message that is too large, the broker closes the channel, and does not answer the messages
        after it. The unanswered messages are then published again, each of them alone.
        """
        self._rejections = {}
        self._confirmed_ids = set()
        failure = self._publish(batch, exchange)
        if _is_message_rejected(failure):
            failure = self._publish_each(list(self._unanswered.values()), exchange)
        confirmed = [message for message in batch if message.message_id in self._confirmed_ids]
        return Answers(confirmed, self._rejections, failure)

    def _publish_each(self, messages: Sequence[Message], exchange: str) -> Exception | None:
        """Publish each message alone; return the error that stopped the publication of all messages."""
        for message in messages:
            if self._failure.done():
                self._open_confirming_channel()
            failure = self._publish([message], exchange)
            if failure and not _is_message_rejected(failure):
                return failure
            if failure:
                self._rejections[message.message_id] = failure
        return None

    def _publish(self, batch: Sequence[Message], exchange: str) -> Exception | None:
        """Publish messages on the open channel; return the error that closed it, or a timeout."""
        tags = range(self._last_tag + 1, self._last_tag + 1 + len(batch))
        self._last_tag = tags[-1]
        self._unanswered = dict(zip(tags, batch, strict=True))
        self._answered = self._create_future()
        mandatory = settings.report_unroutable()
        try:
            for message in batch:
                body, properties = self._encode(message), _build_properties(message)
                self._channel.basic_publish(exchange, message.routing_key, body, properties, mandatory)
            self._wait(self._answered)
        except BROKER_ERRORS as error:
            if match := re.search(r"max size (\d+)", str(error)):
                _MAX_BYTES[self._address] = int(match[1])
            return error
        return None

    def _encode(self, message: Message) -> bytes:
        """Return the body, shortened if the broker has rejected one of its size."""
        return shorten_body(message.body, _MAX_BYTES.get(self._address, sys.maxsize)).encode()

    @property
    def _address(self) -> tuple[str, int]:
        return self._parameters.host, self._parameters.port

    def _open(self) -> None:
        opened = self._create_future()
        self._connection = AsyncioConnection(
            self._parameters,
            on_open_callback=lambda _: _resolve(opened),
            on_open_error_callback=self._on_connection_closed,
            on_close_callback=self._on_connection_closed,
            custom_ioloop=self._runner.get_loop(),
        )
        self._connection.add_on_connection_blocked_callback(lambda *_: self._set_blocked(is_blocked=True))
        self._connection.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(is_blocked=False))
        # Pika's own timeout has the same length, and closes the socket.
        self._wait(opened, extra_seconds=CLOSE_SECONDS)
        self._open_confirming_channel()

    def _open_confirming_channel(self) -> None:
        """Open the channel for messages, which the broker answers; it counts them from 1."""
        self._failure = self._create_future()  # the error that closed the connection or this channel
        self._channel = self._open_channel(self._failure)
        self._last_tag = 0
        selected = self._create_future()
        self._channel.add_on_return_callback(self._on_return)
        self._channel.confirm_delivery(self._on_answer, lambda _: _resolve(selected))
        self._wait(selected)

    def _open_channel(self, closed: asyncio.Future[Any]) -> Channel:
        """Open a channel; the future receives the error that closes it."""
        opened = self._create_future()
        channel = self._connection.channel(on_open_callback=lambda _: _resolve(opened))
        channel.add_on_close_callback(lambda _, error: _resolve(closed, error))
        self._wait(opened)
        return channel

    def _close(self) -> None:
        if self._connection.is_open:
            self._connection.close()
            timeout = 0 if self._is_hanging else CLOSE_SECONDS
            self._runner.run(asyncio.wait([self._closed], timeout=timeout))
        self._runner.close()

    def _create_future(self) -> asyncio.Future[Any]:
        return self._runner.get_loop().create_future()

    def _wait(self, answer: asyncio.Future[Any], extra_seconds: float = 0) -> Any:
        """Return the result of a future, unless the connection or the channel closes before."""
        timeout = settings.report_timeout() + extra_seconds
        futures = (answer, self._failure)
        self._runner.run(asyncio.wait(futures, timeout=timeout, return_when=asyncio.FIRST_COMPLETED))
        if answer.done():
            return answer.result()
        if self._failure.done():
            raise self._failure.result()
        self._is_hanging = True
        reason = f"no answer in {timeout:g} s"
        raise ConnectionBlockedTimeout(reason) if self._is_blocked else TimeoutError(reason)

    def _set_blocked(self, *, is_blocked: bool) -> None:
        self._is_blocked = is_blocked

    def _on_connection_closed(self, connection: Any, error: BaseException) -> None:
        _resolve(self._failure, _find_cause(error))
        _resolve(self._closed)

    def _on_return(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._rejections[properties.message_id] = UnroutableError([ReturnedMessage(method, properties, body)])

    def _on_answer(self, frame: Any) -> None:
        last_tag = frame.method.delivery_tag
        is_multiple = frame.method.multiple  # answers all messages up to this tag
        tags = [tag for tag in self._unanswered if tag <= last_tag] if is_multiple else [last_tag]
        for tag in tags:
            message_id = self._unanswered.pop(tag).message_id
            if isinstance(frame.method, Basic.Nack):
                self._rejections[message_id] = NackError([])
            elif message_id not in self._rejections:
                self._confirmed_ids.add(message_id)
        if not self._unanswered:
            _resolve(self._answered)


def _resolve(future: asyncio.Future[Any], result: Any = None) -> None:
    if not future.done():
        future.set_result(result)


def _is_message_rejected(failure: Exception | None) -> bool:
    """Return whether the broker has closed the channel because of one message."""
    return isinstance(failure, ChannelClosedByBroker) and failure.reply_code == PRECONDITION_FAILED


def _build_properties(message: Message) -> pika.BasicProperties:
    return pika.BasicProperties(
        content_type="application/json",
        delivery_mode=pika.DeliveryMode.Persistent.value,
        message_id=message.message_id,
        timestamp=int(time.time()),
        app_id="event_hooks",
    )


def _find_cause(error: BaseException) -> BaseException:
    """Return the error that ended the last attempt to connect."""
    if isinstance(error, AMQPConnectionWorkflowFailed):
        error = error.exceptions[-1]
    return error.exception if isinstance(error, AMQPConnectorPhaseErrorBase) else error
