"""Whether all that event hooks stands on answers, for a monitor and for whoever is on call."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from airflow.jobs.job import Job, JobState
from airflow.utils.session import create_session
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from sqlalchemy import select

from event_hooks import settings
from event_hooks.api import models
from event_hooks.api.security import MAY_READ
from event_hooks.events import lookups
from event_hooks.exceptions import EventHooksError
from event_hooks.hive.hook import HiveHook
from event_hooks.reports.hook import RabbitMQHook

if TYPE_CHECKING:
    from event_hooks.api.intake import EventIntake

log = logging.getLogger(__name__)

FRESH = 10.0
"""Seconds for which an answer is given to everybody: nobody can ask the servers more often through us."""

LIMIT = 5.0
"""Seconds that a part may take to answer."""

HEALTHY, UNHEALTHY, UNKNOWN = "healthy", "unhealthy", "unknown"

router = APIRouter(tags=["health"])


@router.get(
    "/health",
    dependencies=[MAY_READ],
    response_model=models.Health,
    responses={**models.answers({}), 503: {"model": models.Health}},
)
async def health(request: Request) -> JSONResponse:
    """
    Tell whether ledger, RabbitMQ, hives and triggerers answer; 503 if one does not.

    An answer may be ten seconds old. The API server's log has more than its messages.
    """
    found: dict[str, Any] = await request.app.state.health.look()
    return JSONResponse(found, 200 if found["status"] == HEALTHY else 503)


class Health:
    """Asks all parts at once, and remembers for a while."""

    def __init__(self, intake: EventIntake) -> None:
        self._intake = intake
        self._began = 0.0
        self._asked: asyncio.Task[dict[str, Any]] | None = None
        self._bad: set[str] = set()

    async def look(self) -> dict[str, Any]:
        """Give the state of each part, and of all."""
        is_old = time.monotonic() - self._began > FRESH
        if self._asked is None or (self._asked.done() and is_old):
            self._began, self._asked = time.monotonic(), asyncio.create_task(self._ask())
        return await asyncio.shield(self._asked)

    async def _ask(self) -> dict[str, Any]:
        known = {one.hive_conn_id for one in lookups.load_cached().processes.values()}
        names = sorted(known) if settings.write_through() else []
        ledger, rabbitmq, triggerers, *hives = await asyncio.gather(
            self._part("ledger", lambda: asyncio.to_thread(self._ledger)),
            self._part("rabbitmq", lambda: asyncio.to_thread(_rabbitmq)),
            self._part("triggerers", lambda: asyncio.to_thread(_triggerers)),
            *(self._part(name, lambda name=name: self._hive(name)) for name in names),  # type: ignore[misc]
        )
        parts = [ledger, rabbitmq, triggerers, *hives]
        is_well = all(part["status"] == HEALTHY for part in parts)
        return {
            "status": HEALTHY if is_well else UNHEALTHY,
            "ledger": ledger,
            "rabbitmq": rabbitmq,
            "triggerers": triggerers,
            # Where the API server may not reach the hives, nobody here can tell
            "hives": {name: {"status": UNKNOWN} for name in known} | dict(zip(names, hives, strict=True)),
        }

    async def _part(self, name: str, ask: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(LIMIT):
                told = {"status": HEALTHY, **await ask()}
        except Exception as error:
            is_known = isinstance(error, EventHooksError | TimeoutError)
            reason = str(error) or f"no answer within {LIMIT:g} s"
            if name not in self._bad:
                log.warning("%s is not healthy: %s", name, reason, exc_info=not is_known)
            public = error.public_message if isinstance(error, EventHooksError) else "no answer"
            told = {"status": UNHEALTHY, "message": public}
        self._bad.discard(name)
        if told["status"] != HEALTHY:
            self._bad.add(name)
        return told

    def _ledger(self) -> dict[str, Any]:
        self._intake.ledger().read(select(1))
        return {}

    async def _hive(self, name: str) -> dict[str, Any]:
        is_alive, _ = await self._intake.hives.ask(name, HiveHook.beekeeper, LIMIT)
        return {"beekeeper": is_alive}


def _rabbitmq() -> dict[str, Any]:
    RabbitMQHook().check(settings.report_exchange())
    return {}


def _triggerers() -> dict[str, Any]:
    wanted = select(Job).where(Job.job_type == "TriggererJob", Job.state == JobState.RUNNING)
    with create_session() as session:
        alive = sum(job.is_alive() for job in session.scalars(wanted))
    if not alive:
        return {"status": UNHEALTHY, "alive": 0, "message": "no triggerer is alive: nobody waits for jobs"}
    return {"alive": alive}
