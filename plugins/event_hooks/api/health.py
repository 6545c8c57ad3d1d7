"""Health of the ledger, RabbitMQ, Airflow and the hives, for monitoring and for operators."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from sqlalchemy import select

from event_hooks import settings
from event_hooks.api import models
from event_hooks.api.airflow_health import AIRFLOW_COMPONENTS, HEALTHY, UNHEALTHY, WARNING
from event_hooks.api.security import MAY_READ
from event_hooks.events import lookups
from event_hooks.exceptions import EventHooksError
from event_hooks.hive.hook import HiveHook
from event_hooks.ledger.processes import list_open_runs
from event_hooks.ledger.reports import count_rejected_reports
from event_hooks.reports.hook import RabbitMQHook
from event_hooks.runtime.airflow_status import find_ended_runs

if TYPE_CHECKING:
    from event_hooks.api.airflow_health import AirflowMonitor
    from event_hooks.api.intake import EventIntake

log = logging.getLogger(__name__)

CACHE_SECONDS = 10.0
"""Time for which a result is cached for all callers: it limits the load on the servers behind this API."""

TIMEOUT_SECONDS = 5.0
"""Timeout of the check of one component."""

UNKNOWN = "unknown"

RUN_AGE = timedelta(minutes=3)
"""Age of an event after which its run counts as unhealthy if Airflow does not run it."""

router = APIRouter(tags=["health"])


@router.get(
    "/health",
    dependencies=[MAY_READ],
    response_model=models.HealthResponse,
    responses={**models.describe_errors(), 503: {"model": models.HealthResponse}},
)
async def check_health(request: Request) -> JSONResponse:
    """
    Check the ledger, RabbitMQ, Airflow and the hives; the status is 503 if one of them is unhealthy.

    The result is cached for ten seconds. The API server log has the details of each problem.
    """
    result: dict[str, Any] = await request.app.state.health.check()
    return JSONResponse(result, 200 if result["status"] != UNHEALTHY else 503)


class HealthMonitor:
    """Check all components concurrently, and cache the result."""

    def __init__(self, intake: EventIntake, airflow: AirflowMonitor) -> None:
        self._intake = intake
        self._airflow = airflow
        self._started_at = 0.0
        self._task: asyncio.Task[dict[str, Any]] | None = None
        self._unhealthy: set[str] = set()

    async def check(self) -> dict[str, Any]:
        """Return the health of each component and of all together, as :class:`models.HealthResponse`."""
        is_expired = time.monotonic() - self._started_at > CACHE_SECONDS
        if self._task is None or (self._task.done() and is_expired):
            self._started_at, self._task = time.monotonic(), asyncio.create_task(self._check_all())
        return await asyncio.shield(self._task)

    async def _check_all(self) -> dict[str, Any]:
        conn_ids = {process.hive_conn_id for process in lookups.load_cached().processes.values()}
        ledger, rabbitmq, runs, airflow, hives = await asyncio.gather(
            self._check_component("ledger", partial(asyncio.to_thread, self._check_ledger)),
            self._check_component("rabbitmq", partial(asyncio.to_thread, self._check_rabbitmq)),
            self._check_component("runs", partial(asyncio.to_thread, self._check_runs)),
            self._check_airflow(),
            # With write_through off, the API server may be unable to reach the hives.
            self._check_hives(sorted(conn_ids) if settings.write_through() else []),
        )
        components = {"ledger": ledger, "rabbitmq": rabbitmq, **airflow, "runs": runs}
        statuses = {component["status"] for component in (*components.values(), *hives.values())}
        status = next((name for name in (UNHEALTHY, WARNING) if name in statuses), HEALTHY)
        all_hives = {conn_id: {"status": UNKNOWN} for conn_id in conn_ids} | hives
        return {"status": status, **components, "hives": all_hives}

    async def _check_hives(self, conn_ids: Collection[str]) -> dict[str, dict[str, Any]]:
        checks = (self._check_component(conn_id, partial(self._check_hive, conn_id)) for conn_id in conn_ids)
        return dict(zip(conn_ids, await asyncio.gather(*checks), strict=True))

    async def _check_component(
        self, name: str, check: Callable[[], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                result = {"status": HEALTHY, **await check()}
        except Exception as error:
            if name not in self._unhealthy:
                _log_error(name, error)
            message = error.public_message if isinstance(error, EventHooksError) else "no answer"
            result = {"status": UNHEALTHY, "message": message}
        self._unhealthy.discard(name)
        if result["status"] == UNHEALTHY:
            self._unhealthy.add(name)
        return result

    async def _check_airflow(self) -> dict[str, dict[str, Any]]:
        """Return the health of each component of Airflow; one query serves all of them."""

        async def check(name: str) -> dict[str, Any]:
            return (await self._airflow.check())[name]

        checks = (self._check_component(name, partial(check, name)) for name in AIRFLOW_COMPONENTS)
        return dict(zip(AIRFLOW_COMPONENTS, await asyncio.gather(*checks), strict=True))

    def _check_ledger(self) -> dict[str, Any]:
        self._intake.ledger().read(select(1))
        return {}

    def _check_rabbitmq(self) -> dict[str, Any]:
        RabbitMQHook().check_exchange(settings.report_exchange())
        if rejected := count_rejected_reports(self._intake.ledger()):
            text = f"RabbitMQ rejects {rejected} reports: `make check-ledger` and the board show the reason"
            return {"status": UNHEALTHY, "message": text}
        return {}

    def _check_runs(self) -> dict[str, Any]:
        open_runs = list_open_runs(self._intake.ledger(), RUN_AGE)
        if ended := find_ended_runs(settings.DAG_ID, open_runs):
            text = (
                f"{len(ended)} runs have unfinished events, and do not run in Airflow, the first {ended[0]}."
                " maintain_ledger resumes them within two minutes: if not, see its log"
            )
            return {"status": UNHEALTHY, "message": text}
        return {}

    async def _check_hive(self, conn_id: str) -> dict[str, Any]:
        keeper = await self._intake.hives.run(conn_id, HiveHook.load_beekeeper_status, TIMEOUT_SECONDS)
        return {"beekeeper": keeper.is_alive} | ({"message": keeper.text} if keeper.is_alive is False else {})


def _log_error(name: str, error: Exception) -> None:
    """Log why a component is unhealthy, with a traceback unless it is merely unavailable."""
    is_expected = isinstance(error, EventHooksError | TimeoutError)
    reason = str(error) or f"no answer within {TIMEOUT_SECONDS:g} s"
    log.warning("%s is unhealthy: %s", name, reason, exc_info=not is_expected)
