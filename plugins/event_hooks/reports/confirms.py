"""Publisher confirms: which messages the broker has stored in a queue."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from pika.adapters.blocking_connection import ReturnedMessage
from pika.exceptions import NackError, UnroutableError
from pika.spec import Basic

from event_hooks import settings

if TYPE_CHECKING:
    from pika.adapters.blocking_connection import BlockingChannel

CONFIRM_POLL_SECONDS = 0.005


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


class PublisherConfirms:
    """
    The broker's confirmations of several messages.

    Pika's blocking channel waits for the confirmation of each message: 10,000 messages took 10 s.

    :param channel: on which no message was published before.
    """

    def __init__(self, channel: BlockingChannel) -> None:
        self._channel = channel
        self._last_tag = 0
        self._expected: dict[int, Message] = {}
        """``{delivery tag: message}`` of the present batch."""

        self._unconfirmed: set[int] = set()
        self._rejected: set[int] = set()
        self._returned: dict[str | None, ReturnedMessage] = {}
        # Pika's blocking channel uses this private object as well, and waits after each message.
        channel._impl.confirm_delivery(self._on_confirm)
        channel.add_on_return_callback(self._on_return)

    def expect(self, message: Message) -> None:
        """Expect the confirmation of this message, which the caller publishes next."""
        self._last_tag += 1
        self._expected[self._last_tag] = message
        self._unconfirmed.add(self._last_tag)

    def iter_confirmed(self) -> Iterator[Any]:
        """
        Wait for all confirmations, and yield the messages that are confirmed and in a queue, in order.

        :raises TimeoutError: confirmations are missing after twice the setting ``report_timeout``.
        :raises UnroutableError: after these messages, for the first message without a queue.
        :raises NackError: after these messages, if a queue has rejected a message.
        """
        self._wait()
        unconfirmed = self._unconfirmed | self._rejected
        expected, self._expected = self._expected, {}
        for tag, message in expected.items():
            if tag not in unconfirmed and message.message_id not in self._returned:
                yield message
        if self._unconfirmed:
            raise self._channel._closing_reason or ConnectionError("the channel was closed")
        if self._returned:
            raise UnroutableError(list(self._returned.values())[:1])
        if self._rejected:
            raise NackError([])

    def _wait(self) -> None:
        # Pika's timeout for a blocked connection is half of this one, and its error has the better reason.
        timeout = 2 * settings.report_timeout()
        deadline = time.monotonic() + timeout
        while self._unconfirmed and self._channel.is_open:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self._unconfirmed)} messages were not confirmed in {timeout:g} s")
            self._channel.connection.process_data_events(CONFIRM_POLL_SECONDS)

    def _on_confirm(self, frame: Any) -> None:
        tag = frame.method.delivery_tag
        is_multiple = frame.method.multiple  # confirms all messages up to this tag
        tags = {open_tag for open_tag in self._unconfirmed if open_tag <= tag} if is_multiple else {tag}
        self._unconfirmed -= tags
        if isinstance(frame.method, Basic.Nack):
            self._rejected |= tags

    def _on_return(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._returned[properties.message_id] = ReturnedMessage(method, properties, body)
