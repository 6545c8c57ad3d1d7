"""
Interfaces of Airflow's API server, for the FastAPI app that event hooks mounts in it.

Imported only in the API server, because its modules take seconds to import. Airflow 3.3 mounts the apps
of plugins without authentication and documents no dependency for it, so the app uses those of Airflow's
own routes. The public ways to trigger and delete runs, and to clear tasks, are routes below
``/api/v2/dags/{dag_id}``, which need a token and another request to the same server. Replace the functions
here when Airflow documents an interface for apps of plugins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from airflow.api.common.trigger_dag import trigger_dag
from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api import security
from airflow.exceptions import DagRunAlreadyExists
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance, clear_task_instances
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType
from cachetools import TTLCache
from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials
from sqlalchemy import delete, select

__all__ = [
    "COOKIE_NAME_JWT_TOKEN",
    "BaseUser",
    "clear_tasks",
    "delete_finished_runs",
    "find_user",
    "get_user",
    "is_permitted",
    "require_run_permission",
    "trigger_run",
]

STARTED_STATES = (
    TaskInstanceState.RUNNING,
    TaskInstanceState.DEFERRED,
    TaskInstanceState.UP_FOR_RETRY,
    TaskInstanceState.SUCCESS,
    TaskInstanceState.FAILED,
    TaskInstanceState.UPSTREAM_FAILED,
    TaskInstanceState.SKIPPED,
)
"""States of task instances that :func:`clear_tasks` clears."""

MAX_DELETED_RUNS = 1000
"""Runs that one call deletes, in one transaction."""

TOKEN_SECONDS = 5.0
"""Time for which a verified token is not verified again, and for which it stays valid if it is revoked."""

_users: TTLCache[bytes, BaseUser] = TTLCache(1000, TOKEN_SECONDS)
"""``{digest of a verified token: its user}``; used on the event loop only."""

_Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(security.bearer_scheme)]


async def get_user(request: Request, credentials: _Credentials) -> BaseUser:
    """
    FastAPI dependency that returns the user of a request, or answers 401 or 403; as Airflow's own routes do.

    To verify a token, Airflow reads its database on the event loop. A Bearer token is therefore verified once
    in :data:`TOKEN_SECONDS`. The cookie of a browser is verified for each request.
    """
    if credentials is None or credentials.scheme.lower() != "bearer":
        return await security.get_user(request, None, credentials)
    digest = hashlib.sha256(credentials.credentials.encode()).digest()
    if (user := _users.get(digest)) is None:
        user = _users[digest] = await security.get_user(request, None, credentials)
    return user


def require_run_permission(method: Literal["GET", "POST", "PUT"], dag_id: str) -> Callable[..., None]:
    """Return a FastAPI dependency that answers 401 or 403 without this permission on the runs of a DAG."""
    check = security.requires_access_dag(method, DagAccessEntity.RUN, dag_id)

    def require(request: Request, user: Annotated[BaseUser, Depends(get_user)]) -> None:
        check(request, user)

    return require


async def find_user(token: str | None) -> BaseUser | None:
    """Return the user of a token of Airflow's login; ``None`` if the token is invalid."""
    try:
        return await security.resolve_user_from_token(token)
    except HTTPException:
        return None


def is_permitted(check: Callable[..., Any], request: Request, user: BaseUser) -> bool:
    """Return whether a user has the permission that a dependency of :func:`require_run_permission` checks."""
    try:
        check(request, user)
    except HTTPException:
        return False
    return True


def trigger_run(dag_id: str, run_id: str, conf: dict[str, Any], note: str | None, user: str | None) -> bool:
    """
    Trigger a run; idempotent.

    :return: False if a run with this id exists.
    """
    try:
        trigger_dag(
            dag_id,
            run_id=run_id,
            conf=conf,
            triggered_by=DagRunTriggeredByType.REST_API,
            triggering_user_name=user,
            note=note,
        )
    except DagRunAlreadyExists:
        return False
    return True


def clear_tasks(dag_id: str, task_ids: Mapping[str, Collection[str]]) -> None:
    """
    Clear tasks, in one transaction, as a user does with *Clear*; their runs continue.

    Tasks that have not started are left alone, and so are tasks and runs that do not exist.

    :param task_ids: ``{run id: ids of its tasks}``.
    """
    started = (
        select(TaskInstance)
        .join(TaskInstance.dag_run)
        .where(
            TaskInstance.dag_id == dag_id,
            TaskInstance.run_id.in_(task_ids),
            TaskInstance.task_id.in_({name for names in task_ids.values() for name in names}),
            TaskInstance.state.in_(STARTED_STATES),
        )
    )
    with create_session() as session:
        instances = session.scalars(started).all()
        selected = [instance for instance in instances if instance.task_id in task_ids[instance.run_id]]
        if selected:
            clear_task_instances(selected, session)


def delete_finished_runs(dag_id: str, age: timedelta) -> int:
    """
    Delete the oldest finished runs of a DAG, with their tasks and XComs, but not the log files of the tasks.

    :param age: delete runs that were due longer ago.
    :return: number of deleted runs, at most :data:`MAX_DELETED_RUNS`.
    """
    finished = (
        select(DagRun.id)
        .where(
            DagRun.dag_id == dag_id,
            DagRun.state.in_((DagRunState.SUCCESS, DagRunState.FAILED)),
            DagRun.run_after < datetime.now(UTC) - age,
        )
        .order_by(DagRun.id)
        .limit(MAX_DELETED_RUNS)
    )
    with create_session() as session:
        ids = list(session.scalars(finished))
        if ids:
            session.execute(delete(DagRun).where(DagRun.id.in_(ids)))
        return len(ids)
