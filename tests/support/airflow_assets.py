"""A database with all tables of Airflow, for tests of the assets that the API server writes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, delete, insert, select
from sqlalchemy.orm import configure_mappers, sessionmaker

from tests.integration.ledger.databases import create_database, drop_database

CONSUMER = "consumer"
"""A DAG that is scheduled on each asset of :meth:`AirflowAssets.add`."""


class AirflowAssets:
    """Airflow's assets, with their events and the queue of DAGs that are scheduled on them."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def execute(self, statement: Any) -> Any:
        """Execute a statement in a transaction of its own."""
        with self.engine.begin() as connection:
            return connection.execute(statement)

    def add(self, name: str) -> None:
        """Add an asset, on which the DAG ``consumer`` is scheduled."""
        from airflow.models.asset import AssetActive, AssetModel, DagScheduleAssetReference

        now = datetime.now(UTC)
        values = {"name": name, "uri": name, "group": "asset", "extra": {}}
        times = {"created_at": now, "updated_at": now}
        (asset_id,) = self.execute(insert(AssetModel).values(**values, **times)).inserted_primary_key
        self.execute(insert(AssetActive).values(name=name, uri=name))
        reference = {"asset_id": asset_id, "dag_id": CONSUMER, **times}
        self.execute(insert(DagScheduleAssetReference).values(reference))

    def list_events(self) -> list[Any]:
        """Return the rows of all asset events, with the name of their asset."""
        from airflow.models.asset import AssetEvent, AssetModel

        columns = (AssetModel.name, *AssetEvent.__table__.columns)
        statement = select(*columns).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        with self.engine.connect() as connection:
            return list(connection.execute(statement.order_by(AssetEvent.id)))

    def read_queue(self) -> dict[str, datetime]:
        """Return ``{DAG: time up to which its next run takes asset events}``."""
        from airflow.models.asset import AssetDagRunQueue

        columns = (AssetDagRunQueue.target_dag_id, AssetDagRunQueue.created_at)
        with self.engine.connect() as connection:
            return {row.target_dag_id: row.created_at for row in connection.execute(select(*columns))}


@pytest.fixture(scope="session")
def airflow_assets_engine() -> Iterator[Engine]:
    """A database on PostgreSQL with the tables."""
    from airflow.models import import_all_models
    from airflow.models.base import Base

    import_all_models()
    configure_mappers()
    uri = create_database("postgresql", Path())
    engine = create_engine(uri.replace("://", "+psycopg2://", 1))
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()
    drop_database("postgresql", uri)


@pytest.fixture
def airflow_assets(airflow_assets_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[AirflowAssets]:
    """The database of an Airflow with a DAG ``consumer``, and without assets."""
    from airflow import settings
    from airflow.models.asset import AssetActive, AssetEvent, AssetModel
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel

    monkeypatch.setattr(settings, "Session", sessionmaker(airflow_assets_engine))
    assets = AirflowAssets(airflow_assets_engine)
    assets.execute(insert(DagBundleModel).values(name="dags-folder", active=True))
    values = {
        "bundle_name": "dags-folder",
        "is_paused": False,
        "is_stale": False,
        "max_active_tasks": 1,
        "max_consecutive_failed_dag_runs": 0,
        "has_task_concurrency_limits": False,
    }
    assets.execute(insert(DagModel).values(dag_id=CONSUMER, **values))
    yield assets
    for model in (AssetEvent, AssetActive, DagModel, AssetModel, DagBundleModel):
        assets.execute(delete(model))
