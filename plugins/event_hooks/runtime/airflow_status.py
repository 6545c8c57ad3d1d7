"""
The state of Airflow's components, DAGs and runs, as its database has it; for the API server only.

Airflow 3.3 has public routes for parts of this (``/monitor/health``, ``/dags``, ``/dagRuns``), which need a
token and further requests to the same server, and no route for the age of queued tasks. Replace this module
when Airflow documents an interface for plugins of the API server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from airflow.configuration import conf
from airflow.jobs.job import Job, JobState
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from more_itertools import sliced
from sqlalchemy import func, or_, select

COMPONENTS = {"schedulers": "SchedulerJob", "dag_processors": "DagProcessorJob", "triggerers": "TriggererJob"}
"""``{component: Airflow's type of its jobs}``."""

MAX_RUN_IDS = 1000
"""Run ids in one statement."""


@dataclass(frozen=True)
class AirflowStatus:
    """What runs events at present."""

    alive: dict[str, int]
    """``{component: number of live processes}``, for :data:`COMPONENTS`."""

    paused: Sequence[str]
    """Paused DAGs."""

    missing: Sequence[str]
    """DAGs that the DAG processor does not find."""

    queued: int
    """Tasks that no worker has started within the given time."""

    running_runs: int
    """Running runs of all DAGs without backfills; the scheduler examines those of backfills last."""


def load_status(dag_ids: Sequence[str], max_queued: timedelta) -> AirflowStatus:
    """
    Load the state of the components, of these DAGs, and of their tasks.

    :param max_queued: tasks that are queued longer are counted.
    """
    jobs = select(Job).where(Job.job_type.in_(COMPONENTS.values()), Job.state == JobState.RUNNING)
    dags = select(DagModel.dag_id, DagModel.is_paused).where(
        DagModel.dag_id.in_(dag_ids), DagModel.is_stale.is_(False)
    )
    queued = select(func.count()).where(
        TaskInstance.dag_id.in_(dag_ids),
        TaskInstance.state == TaskInstanceState.QUEUED,
        TaskInstance.queued_dttm < datetime.now(UTC) - max_queued,
    )
    running_runs = select(func.count()).where(
        DagRun.state == DagRunState.RUNNING, DagRun.backfill_id.is_(None)
    )
    with create_session() as session:
        alive = Counter(job.job_type for job in session.scalars(jobs) if job.is_alive())
        is_paused = {row.dag_id: row.is_paused for row in session.execute(dags)}
        return AirflowStatus(
            alive={name: alive[job_type] for name, job_type in COMPONENTS.items()},
            paused=[dag_id for dag_id in dag_ids if is_paused.get(dag_id)],
            missing=[dag_id for dag_id in dag_ids if dag_id not in is_paused],
            queued=session.scalar(queued) or 0,
            running_runs=session.scalar(running_runs) or 0,
        )


def find_ended_runs(dag_id: str, run_ids: Collection[str]) -> list[str]:
    """Return those of these runs that Airflow does not have, or that are finished."""
    active: set[str] = set()
    with create_session() as session:
        for batch in sliced(list(run_ids), MAX_RUN_IDS):
            statement = select(DagRun.run_id).where(
                DagRun.dag_id == dag_id,
                DagRun.run_id.in_(batch),
                DagRun.state.in_((DagRunState.QUEUED, DagRunState.RUNNING)),
            )
            active.update(session.scalars(statement))
    return [run_id for run_id in run_ids if run_id not in active]


def has_recent_run(dag_id: str, age: timedelta) -> bool:
    """Return whether a DAG has a run that is not finished, or that was created less than ``age`` ago."""
    unfinished = select(DagRun.id).where(
        DagRun.dag_id == dag_id, DagRun.state.in_((DagRunState.QUEUED, DagRunState.RUNNING))
    )
    # `run_after` has an index. It is in the future for the next run of a schedule only.
    recent = select(DagRun.id).where(DagRun.dag_id == dag_id, DagRun.run_after > datetime.now(UTC) - age)
    with create_session() as session:
        return bool(session.scalar(select(or_(unfinished.exists(), recent.exists()))))


def max_examined_runs() -> int:
    """Return the number of running runs that the scheduler examines in one loop."""
    return conf.getint("scheduler", "max_dagruns_per_loop_to_schedule")
