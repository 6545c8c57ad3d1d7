"""
Watch the ledger for pending work, in the API server.

Send reports, register asset events, clear the tasks of retried processes, and request and delete runs of
`maintain_ledger`; tasks have no access to Airflow's database.

A task that stores reports does not send them, and no triggerer may be writing. Each process of the API server
therefore polls the ledger, and sends what is pending. Several processes, and triggerers, can do so at the
same time: :func:`event_hooks.ledger.reports.publish_pending` locks the reports that it publishes.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from event_hooks.api.asset_events import register_asset_events
from event_hooks.exceptions import EventHooksError
from event_hooks.ledger.asset_events import has_pending_asset_events
from event_hooks.ledger.overview import needs_maintenance
from event_hooks.ledger.reports import has_ready_reports
from event_hooks.reports.sender import ReportSender
from event_hooks.runtime import airflow_status

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger

log = logging.getLogger(__name__)

MAINTENANCE_DAG_ID = "maintain_ledger"

POLL_SECONDS = 0.5
"""Time between two polls for pending reports, and for pending asset events."""

RETRY_POLL_SECONDS = 10.0
"""
Time between two polls for tasks of retried processes that are not cleared.

The request itself clears them; the poll is for a request that was interrupted.
"""

STOP_POLL_SECONDS = 5.0
"""Time between two stops of the jobs that running jobs of stopped processes have created."""

MAX_REPORTS_PER_POLL = 500
"""Reports that one poll sends: more would delay the responses of the API server."""

MAINTENANCE_POLL_SECONDS = 20.0
"""Time between two polls for work of `maintain_ledger`."""

MAINTENANCE_PAUSE = timedelta(seconds=30)
"""Time after the creation of a run of `maintain_ledger` in which no run is requested."""

DELETION_POLL_SECONDS = 600.0
"""Time between two deletions of old runs of `maintain_ledger`."""

RUN_RETENTION = timedelta(days=7)
"""Age from which finished runs of `maintain_ledger` are deleted from Airflow's database."""

MAX_RETRY_SECONDS = 60.0
"""The longest pause after an error; pauses double from 1 s."""


class PendingWorkMonitor:
    """
    Poll the ledger until :meth:`close`; belongs to one event loop.

    :param open_ledger: returns the ledger; called in a thread.
    :param request_maintenance: requests a run of `maintain_ledger`; called in a thread.
    :param clear_tasks: clears the tasks of retried processes; called in a thread.
    :param stop_jobs: stops the jobs of the processes that users stop.
    """

    def __init__(
        self,
        open_ledger: Callable[[], Ledger],
        request_maintenance: Callable[[], None],
        clear_tasks: Callable[[], None],
        stop_jobs: Callable[[], Awaitable[None]],
    ) -> None:
        self._stop_jobs = stop_jobs
        self._clear_tasks = clear_tasks
        self._open_ledger = open_ledger
        self._request_maintenance = request_maintenance
        self._send_reports = ReportSender(MAX_REPORTS_PER_POLL)
        self._pollers = (
            Poller("Sending pending reports", POLL_SECONDS, self._poll_reports),
            Poller("Clearing the tasks of retried processes", RETRY_POLL_SECONDS, self._poll_retries),
            Poller("Stopping jobs", STOP_POLL_SECONDS, self._poll_stops),
            Poller("Registering asset events", POLL_SECONDS, self._poll_asset_events),
            Poller("Requesting maintain_ledger", MAINTENANCE_POLL_SECONDS, self._poll_maintenance),
            Poller("Deleting old runs of maintain_ledger", DELETION_POLL_SECONDS, self._delete_runs),
        )

    async def close(self) -> None:
        """End all pollers, after their present calls: those of RabbitMQ and the databases have timeouts."""
        await asyncio.gather(*(poller.close() for poller in self._pollers))

    async def _poll_reports(self, thread: ThreadPoolExecutor) -> None:
        run = asyncio.get_running_loop().run_in_executor
        ledger = await run(thread, self._open_ledger)
        if await run(thread, has_ready_reports, ledger):
            await self._send_reports(thread, ledger)

    async def _poll_retries(self, thread: ThreadPoolExecutor) -> None:
        await asyncio.get_running_loop().run_in_executor(thread, self._clear_tasks)

    async def _poll_stops(self, thread: ThreadPoolExecutor) -> None:
        await self._stop_jobs()

    async def _poll_asset_events(self, thread: ThreadPoolExecutor) -> None:
        await asyncio.get_running_loop().run_in_executor(thread, self._register_asset_events)

    async def _poll_maintenance(self, thread: ThreadPoolExecutor) -> None:
        await asyncio.get_running_loop().run_in_executor(thread, self._request_needed_maintenance)

    async def _delete_runs(self, thread: ThreadPoolExecutor) -> None:
        await asyncio.get_running_loop().run_in_executor(thread, delete_old_runs)

    def _register_asset_events(self) -> None:
        ledger = self._open_ledger()
        if has_pending_asset_events(ledger):
            register_asset_events(ledger)

    def _request_needed_maintenance(self) -> None:
        if needs_maintenance(self._open_ledger()):
            self._request_maintenance()


class Poller:
    """
    Call a function periodically, with a thread of its own, until :meth:`close`.

    After an error, the pauses grow, and the first error is logged; no error ends the poller.

    :param subject: what the function does, for log lines.
    :param poll: receives the thread.
    """

    def __init__(
        self, subject: str, seconds: float, poll: Callable[[ThreadPoolExecutor], Awaitable[None]]
    ) -> None:
        self._subject = subject
        self._seconds = seconds
        self._poll = poll
        self._thread = ThreadPoolExecutor(1, subject)
        self._task = asyncio.create_task(self._run(), context=contextvars.Context())

    async def close(self) -> None:
        """Start no further call, and wait for the present one."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self) -> None:
        retry_seconds = 0.0
        while True:
            await asyncio.sleep(retry_seconds or self._seconds)
            try:
                await self._poll(self._thread)
            except Exception as error:
                if not retry_seconds:
                    is_expected = isinstance(error, EventHooksError)
                    log.warning("%s is retried: %s", self._subject, error, exc_info=not is_expected)
                retry_seconds = min(max(1.0, 2 * retry_seconds), MAX_RETRY_SECONDS)
            else:
                if retry_seconds:
                    log.info("%s works again", self._subject)
                retry_seconds = 0.0


def request_maintenance() -> None:
    """
    Trigger a run of `maintain_ledger`, unless one is unfinished or was created recently.

    Its id has the minute, so that the processes of all API servers trigger at most one run a minute.
    """
    from event_hooks.runtime import api_server  # its modules exist for the API server and are slow to import

    if airflow_status.has_recent_run(MAINTENANCE_DAG_ID, MAINTENANCE_PAUSE):
        return
    run_id = f"pending__{datetime.now(UTC):%Y%m%dT%H%M}"
    api_server.trigger_run(MAINTENANCE_DAG_ID, run_id, {}, None, None)


def delete_old_runs() -> None:
    """Delete runs of `maintain_ledger` that are older than :data:`RUN_RETENTION`; idempotent."""
    from event_hooks.runtime import api_server  # as above

    count = api_server.delete_finished_runs(MAINTENANCE_DAG_ID, RUN_RETENTION)
    if count:
        log.info("%s runs of %s older than %s deleted", count, MAINTENANCE_DAG_ID, RUN_RETENTION)
