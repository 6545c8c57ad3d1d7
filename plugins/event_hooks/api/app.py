"""The FastAPI app that Airflow's API server mounts at ``/event-hooks``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

from event_hooks.api import action_routes, event_routes, health, middleware, openapi, problems, routes
from event_hooks.api.actions import UserActions
from event_hooks.api.airflow_health import AirflowMonitor
from event_hooks.api.board import pages
from event_hooks.api.board.beekeeper_status import BeekeeperStatusCache
from event_hooks.api.garbage_collection import limit_collections
from event_hooks.api.health import HealthMonitor
from event_hooks.api.intake import EventIntake
from event_hooks.api.pending_work import PendingWorkMonitor, request_maintenance
from event_hooks.process_event.runs import clear_tasks_from_api, start_run_from_api

if TYPE_CHECKING:
    from event_hooks.api.run_starter import StartRun
    from event_hooks.process_event.user_requests import ClearTasks

DESCRIPTION = """
Submit events of the Ensembl staging server, and follow their processes and jobs.

Log in to Airflow first, or send `Authorization: Bearer <token>`. Every error has `application/problem+json`
(RFC 9457); it names the fields and the expected values.
"""


def create_app(
    start_run: StartRun = start_run_from_api, clear_tasks: ClearTasks = clear_tasks_from_api
) -> FastAPI:
    """
    Create the app; its connections are opened by the first request that needs them.

    :param start_run: starts a run, as in :class:`event_hooks.api.run_starter.RunStarter`.
    :param clear_tasks: clears tasks in Airflow, as in :class:`event_hooks.api.actions.UserActions`.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.intake = intake = EventIntake(start_run)
        app.state.actions = actions = UserActions(intake, clear_tasks)
        app.state.beekeepers = BeekeeperStatusCache(intake.hives)
        app.state.airflow = airflow = AirflowMonitor()
        app.state.comparison_lock = asyncio.Lock()
        app.state.health = HealthMonitor(intake, airflow)
        collections = asyncio.create_task(limit_collections())
        pending_work = PendingWorkMonitor(
            intake.ledger, request_maintenance, actions.clear_requested_tasks, actions.stop_requested_jobs
        )
        yield
        collections.cancel()
        # A broker that does not answer delays no run that is to be started.
        await asyncio.gather(pending_work.close(), intake.close())

    app = FastAPI(
        title="event hooks",
        description=DESCRIPTION,
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        openapi_url=None,  # openapi.py serves all three to logged-in users only
    )
    # The last is the first that a request passes.
    for step in (middleware.TrailingSlash, middleware.TimeLimit, middleware.RejectCrossSite):
        app.add_middleware(step)
    app.add_middleware(middleware.SecurityHeaders)
    for router in (
        routes.router,
        event_routes.router,
        action_routes.router,
        health.router,
        openapi.router,
        pages.router,
    ):
        app.include_router(router)
    problems.add_handlers(app)
    return app
