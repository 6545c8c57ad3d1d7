"""A database with Airflow's tables, for tests of what the API server reads there."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, delete, insert, select
from sqlalchemy.orm import configure_mappers, sessionmaker

from event_hooks import settings

JOB_TYPES = {"schedulers": "SchedulerJob", "dag_processors": "DagProcessorJob", "triggerers": "TriggererJob"}
DAG_IDS = (settings.DAG_ID, "maintain_ledger")
_DAG_VALUES = {
    "bundle_name": "dags-folder",
    "is_paused": False,
    "is_stale": False,
    "max_active_tasks": 1,
    "max_consecutive_failed_dag_runs": 0,
    "has_task_concurrency_limits": False,
}


class AirflowDatabase:
    """Airflow's tables of jobs, DAGs, runs and tasks."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def execute(self, statement: Any) -> None:
        """Execute a statement in a transaction of its own."""
        with self.engine.begin() as connection:
            connection.execute(statement)

    def add_run(self, run_id: str, state: str = "running", **values: Any) -> None:
        """Add a run, by default of process_event."""
        from airflow.models.dagrun import DagRun

        run = {"dag_id": settings.DAG_ID, "run_type": "manual", "run_after": datetime.now(UTC), **values}
        self.execute(insert(DagRun).values(run_id=run_id, state=state, log_template_id=1, **run))

    def list_run_ids(self) -> list[str]:
        """Return the ids of all runs, in the order in which they were added."""
        from airflow.models.dagrun import DagRun

        with self.engine.connect() as connection:
            return list(connection.scalars(select(DagRun.run_id).order_by(DagRun.id)))

    def add_task(self, run_id: str, state: str, queued: timedelta) -> None:
        """Add the task ``route`` of a run, which has been queued for some time."""
        from airflow.models.taskinstance import TaskInstance

        values = {
            "id": uuid.uuid4(),
            "dag_id": settings.DAG_ID,
            "run_id": run_id,
            "task_id": "route",
            "map_index": -1,
            "state": state,
            "pool": "default_pool",
            "pool_slots": 1,
            "queued_dttm": datetime.now(UTC) - queued,
        }
        self.execute(insert(TaskInstance).values(values))


@pytest.fixture(scope="session")
def airflow_engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """An SQLite database with the tables."""
    from airflow.models import import_all_models
    from airflow.models.base import Base

    import_all_models()
    configure_mappers()  # otherwise the first query does it, and may exceed its timeout
    names = ("job", "dag", "dag_run", "task_instance")
    engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('airflow')}/airflow.db")
    Base.metadata.create_all(engine, [Base.metadata.tables[name] for name in names])
    return engine


@pytest.fixture
def airflow_database(airflow_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[AirflowDatabase]:
    """The database of an Airflow with live components and our DAGs."""
    from airflow import settings as airflow_settings
    from airflow.jobs.job import Job
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance

    monkeypatch.setattr(airflow_settings, "Session", sessionmaker(airflow_engine))
    monkeypatch.setenv("AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE", "1000")
    database = AirflowDatabase(airflow_engine)
    for job_type in JOB_TYPES.values():
        values = {"job_type": job_type, "state": "running", "latest_heartbeat": datetime.now(UTC)}
        database.execute(insert(Job).values(values))
    for dag_id in DAG_IDS:
        database.execute(insert(DagModel).values(dag_id=dag_id, **_DAG_VALUES))
    yield database
    for model in (TaskInstance, DagRun, DagModel, Job):
        database.execute(delete(model))
