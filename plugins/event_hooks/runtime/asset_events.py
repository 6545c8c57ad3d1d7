"""
Registration of asset events in Airflow's database, for the API server only.

The public ways to register an asset event are the outlets of a task that succeeds in a worker, and ``POST
/assets/events``, which takes one event in a transaction, needs a token, and cannot name the task that
produced it. Replace this module when Airflow has a public way to register several events at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.assets.manager import asset_manager
from airflow.models.asset import AssetDagRunQueue, AssetEvent, AssetModel
from airflow.utils.session import create_session
from more_itertools import sliced
from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from event_hooks.exceptions import AssetEventsNotRegistered

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

MAX_RUN_IDS = 1000
"""Run ids in one statement."""

ID_KEY = "id"
"""The key in the ``extra`` of an asset event that no other event of the same asset has."""


@dataclass(frozen=True)
class NewAssetEvent:
    """An asset event to register."""

    asset: str
    """Name of the asset, which is also its URI."""

    dag_id: str
    run_id: str
    task_id: str
    """With the two before: the task that produced the event."""

    extra: Mapping[str, Any]
    """It has the key :data:`ID_KEY`."""


def register(events: Sequence[NewAssetEvent], since: timedelta) -> int:
    """
    Register asset events, in one transaction, except those that are registered already.

    Airflow has an asset if a DAG names it; an event of another asset is not registered, as no DAG reads it.
    The rows of the assets are locked: of two processes with the same event, the second finds it.

    A run of a DAG that is scheduled on an asset takes the events up to the time of its row in the queue. In
    Airflow 3.3, this is the time of the *first* of several events, and the others are left until the next
    event. The row is therefore set to the time of the last one. It is locked before, so that the scheduler
    does not take it in between.

    :param since: time for which these events may be registered already.
    :return: the number of events that are registered now.
    :raises AssetEventsNotRegistered: the database is unavailable, or answers with an error.
    """
    try:
        with create_session() as session:
            return _register_events(session, events, since)
    except SQLAlchemyError as error:
        raise AssetEventsNotRegistered(str(getattr(error, "orig", error))) from error


def _register_events(session: Session, events: Sequence[NewAssetEvent], since: timedelta) -> int:
    assets = _lock_assets(session, {event.asset for event in events})
    ids = [asset.id for asset in assets.values()]
    queue = AssetDagRunQueue.asset_id.in_(ids)
    session.scalars(select(AssetDagRunQueue.asset_id).where(queue).with_for_update()).all()
    registered = _load_registered(session, ids, {event.run_id for event in events}, since)
    new = [
        event
        for event in events
        if event.asset in assets and (assets[event.asset].id, event.extra[ID_KEY]) not in registered
    ]
    for event in new:
        _register(session, assets[event.asset], event)
    if new:
        session.execute(update(AssetDagRunQueue).where(queue).values(created_at=datetime.now(UTC)))
    return len(new)


def _lock_assets(session: Session, names: Collection[str]) -> dict[str, AssetModel]:
    statement = select(AssetModel).where(AssetModel.name.in_(names), AssetModel.uri == AssetModel.name)
    locked = session.scalars(statement.order_by(AssetModel.id).with_for_update())
    return {asset.name: asset for asset in locked}


def _load_registered(
    session: Session, asset_ids: Sequence[int], run_ids: Collection[str], since: timedelta
) -> set[tuple[int, Any]]:
    """Return the asset and id of the events of runs that were registered lately."""
    registered: set[tuple[int, Any]] = set()
    for batch in sliced(sorted(run_ids), MAX_RUN_IDS):
        statement = select(AssetEvent.asset_id, AssetEvent.extra).where(
            AssetEvent.asset_id.in_(asset_ids),
            AssetEvent.timestamp > datetime.now(UTC) - since,
            AssetEvent.source_run_id.in_(batch),
        )
        registered.update((row.asset_id, row.extra.get(ID_KEY)) for row in session.execute(statement))
    return registered


def _register(session: Session, asset: AssetModel, event: NewAssetEvent) -> None:
    registered = asset_manager.register_asset_change(
        asset=asset, extra=dict(event.extra), source_is_api=True, session=session
    )
    if registered is None:
        raise RuntimeError(f"asset {event.asset} was deleted while its row was locked")
    registered.source_dag_id, registered.source_run_id = event.dag_id, event.run_id
    registered.source_task_id, registered.source_map_index = event.task_id, -1
