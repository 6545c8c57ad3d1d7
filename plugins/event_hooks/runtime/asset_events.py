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
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from airflow.assets.manager import asset_manager
from airflow.listeners.types import AssetEvent as ListenerAssetEvent
from airflow.models.asset import AssetDagRunQueue, AssetEvent, AssetModel
from airflow.utils.session import create_session
from more_itertools import sliced
from sqlalchemy import insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from event_hooks.exceptions import AssetEventsNotRegistered
from event_hooks.masking import mask_text

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance
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

    map_index: int = -1


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
        reason = mask_text(str(getattr(error, "orig", error)))
        raise AssetEventsNotRegistered(f"Airflow's database did not take asset events: {reason}") from error


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
    for name, group in groupby(sorted(new, key=attrgetter("asset")), key=attrgetter("asset")):
        _register_group(session, assets[name], list(group))
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


def _register_group(session: Session, asset: AssetModel, events: Sequence[NewAssetEvent]) -> None:
    """
    Register the events of one asset.

    The asset manager needs 3 ms of CPU for an event. It registers the last one, and queues the DAGs; the
    others are inserted by one statement. Listeners of Airflow get all of them.
    """
    *others, last = events
    rows = [_build_row(asset, event) for event in others]
    if rows:
        session.execute(insert(AssetEvent), rows)
    producer = cast("TaskInstance", last)  # the manager reads only the attributes that an event has too
    registered = asset_manager.register_asset_change(
        task_instance=producer, asset=asset, extra=dict(last.extra), session=session
    )
    if registered is None:
        raise RuntimeError(f"asset {asset.name} was deleted while its row was locked")
    serialized = asset.to_serialized()
    for row in rows:
        values = {name: value for name, value in row.items() if name != "asset_id"}
        listened = ListenerAssetEvent(asset=serialized, **values, source_aliases=[], partition_key=None)
        asset_manager.nofity_asset_event_emitted(listened)


def _build_row(asset: AssetModel, event: NewAssetEvent) -> dict[str, Any]:
    return {
        "asset_id": asset.id,
        "extra": dict(event.extra),
        "source_dag_id": event.dag_id,
        "source_task_id": event.task_id,
        "source_run_id": event.run_id,
        "source_map_index": event.map_index,
    }
