"""Send pending reports again and again from an event loop: that of a triggerer, or of the API server."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from event_hooks.exceptions import ReportRejected
from event_hooks.reports.hook import RabbitMQHook
from event_hooks.reports.outbox import send_pending

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger

log = logging.getLogger(__name__)

CONNECTION_SECONDS = 60.0
"""Seconds after which the connection to RabbitMQ is loaded from Airflow again."""


class ReportSender:
    """
    Send pending reports.

    The supervisor of a triggerer answers one request after another, some tens per second, so the connection
    is not loaded for each call, but again after an error or ``CONNECTION_SECONDS``: it may have changed.

    :param limit: as of :func:`event_hooks.reports.outbox.send_pending`.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._hook: RabbitMQHook | None = None
        self._loaded_at = 0.0

    async def __call__(self, thread: ThreadPoolExecutor, ledger: Ledger) -> None:
        """
        Send the reports that are pending in the ledger.

        :raises ReportNotPublished: RabbitMQ is unavailable, or Airflow does not have its connection.
        """
        hook = await self._load_hook()
        self._hook = None  # until the call has succeeded
        try:
            await asyncio.get_running_loop().run_in_executor(thread, self._send, ledger, hook)
        except ReportRejected as error:  # the broker accepts other reports
            log.warning("Reports stay pending, and are retried after a delay: %s", error)
        self._hook = hook

    def _send(self, ledger: Ledger, hook: RabbitMQHook) -> None:
        send_pending(ledger, hook, limit=self._limit)

    async def _load_hook(self) -> RabbitMQHook:
        if self._hook is None or time.monotonic() > self._loaded_at + CONNECTION_SECONDS:
            self._hook = RabbitMQHook(parameters=await RabbitMQHook.load_parameters_async())
            self._loaded_at = time.monotonic()
        return self._hook
