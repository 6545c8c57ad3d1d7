"""Health of the parts of Airflow that process events: components, DAGs, workers, and limits."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from event_hooks import settings
from event_hooks.runtime import airflow_status

if TYPE_CHECKING:
    from event_hooks.runtime.airflow_status import AirflowStatus

CACHE_SECONDS = 10.0
"""Time for which a status is cached for all callers: it limits the load on Airflow's database."""

TIMEOUT_SECONDS = 2.0
"""Longest time that a request waits for the status."""

MAX_QUEUED = timedelta(seconds=60)
"""Time that a task may be queued before the workers count as unhealthy."""

MIN_EXAMINED_RUNS = 1000
"""Value of ``[scheduler] max_dagruns_per_loop_to_schedule`` below which health warns."""

DAGS = {
    settings.DAG_ID: "events are accepted, and not processed",
    "maintain_ledger": "interrupted work is not resumed, and late reports are not sent",
}
"""``{dag_id: consequence of a pause}``, for the DAGs without which events are not finished."""

NO_COMPONENT = {
    "schedulers": "no scheduler is alive: runs do not start",
    "dag_processors": "no DAG processor is alive: changes of the lookups and of DAG files have no effect",
    "triggerers": "no triggerer is alive: jobs are not monitored",
}
"""``{component: message if no process of it is alive}``."""

AIRFLOW_COMPONENTS = (*airflow_status.COMPONENTS, "workers", "dags")

HEALTHY, WARNING, UNHEALTHY = "healthy", "warning", "unhealthy"

Component = dict[str, Any]
"""The fields of :class:`event_hooks.api.models.ComponentHealth`."""


class AirflowMonitor:
    """Load the status of Airflow for all requests of this process, and cache it."""

    def __init__(self) -> None:
        self._started_at = 0.0
        self._task: asyncio.Task[AirflowStatus] | None = None

    def refresh(self) -> asyncio.Task[AirflowStatus]:
        """Start to load the status if the cached one has expired; return the task that loads it."""
        is_expired = time.monotonic() - self._started_at > CACHE_SECONDS
        if self._task is None or (self._task.done() and is_expired):
            self._started_at = time.monotonic()
            load = asyncio.to_thread(airflow_status.load_status, list(DAGS), MAX_QUEUED)
            self._task = asyncio.create_task(load)
            # An error that no request waits for is retrieved here: asyncio would log it with a traceback.
            self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._task

    async def check(self) -> dict[str, Component]:
        """
        Return the health of each component.

        :raises TimeoutError: Airflow's database does not answer; other errors are those of SQLAlchemy.
        """
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return build_components(await asyncio.shield(self.refresh()))

    async def load_warnings(self) -> list[str]:
        """Return the reasons why events that are accepted now are not processed at once."""
        with suppress(Exception):  # `GET /health` has the error; accepting events does not depend on it
            components = (await self.check()).values()
            return [item["message"] for item in components if item.get("status") == UNHEALTHY]
        return []


def build_components(status: AirflowStatus) -> dict[str, Component]:
    """Return ``{component: its health}``."""
    components: dict[str, Component] = {
        name: {"alive": count} if count else _unhealthy(NO_COMPONENT[name], alive=0)
        for name, count in status.alive.items()
    }
    if components["schedulers"]["alive"] and (text := _explain_limit(status.running_runs)):
        components["schedulers"] |= {"status": WARNING, "message": text}
    components["workers"] = _check_workers(status.queued)
    components["dags"] = _check_dags(status)
    return components


def _explain_limit(running_runs: int) -> str | None:
    limit = airflow_status.max_examined_runs()
    setting = f"[scheduler] max_dagruns_per_loop_to_schedule is {limit}"
    if running_runs >= limit:
        return f"{running_runs} runs are running, and {setting}: backfills do not start; increase it"
    if limit < MIN_EXAMINED_RUNS:
        return f"{setting}: no backfill starts while so many runs wait; use {MIN_EXAMINED_RUNS}"
    return None


def _check_workers(queued: int) -> Component:
    if not queued:
        return {}
    return _unhealthy(
        f"{queued} tasks have been queued for more than {MAX_QUEUED.total_seconds():.0f} s: no worker of the"
        f" queue {settings.task_queue()!r} is free, or none is running"
    )


def _check_dags(status: AirflowStatus) -> Component:
    if status.paused:
        texts = (
            f"{dag_id} is paused: {DAGS[dag_id]}; resume it with `airflow dags unpause {dag_id}`"
            for dag_id in status.paused
        )
        return _unhealthy(". ".join(texts))
    if status.missing:
        names = " and ".join(status.missing)
        return _unhealthy(f"the DAG processor has not found {names}: see its log, and `airflow dags list`")
    return {}


def _unhealthy(message: str, **fields: Any) -> Component:
    return {"status": UNHEALTHY, "message": message, **fields}
