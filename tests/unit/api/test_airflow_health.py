"""The health of Airflow's components, on a database with Airflow's tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow import settings as airflow_settings
from airflow.jobs.job import Job
from airflow.models.dag import DagModel
from sqlalchemy import create_engine, delete, update
from sqlalchemy.orm import sessionmaker

from event_hooks.api.airflow_health import AIRFLOW_COMPONENTS, AirflowMonitor
from event_hooks.runtime import airflow_status
from tests.support.airflow_database import DAG_IDS, JOB_TYPES

if TYPE_CHECKING:
    from tests.support.airflow_database import AirflowDatabase


async def check(name: str) -> dict[str, Any]:
    """Return the health of one component; all others are healthy."""
    components = await AirflowMonitor().check()
    assert components.keys() == set(AIRFLOW_COMPONENTS)
    assert {key for key, value in components.items() if key != name and "message" in value} == set()
    return components[name]


async def test_all_components_of_a_working_airflow_are_healthy(airflow_database: AirflowDatabase) -> None:
    assert await AirflowMonitor().check() == {
        "schedulers": {"alive": 1},
        "dag_processors": {"alive": 1},
        "triggerers": {"alive": 1},
        "workers": {},
        "dags": {},
    }


@pytest.mark.parametrize("name", JOB_TYPES)
@pytest.mark.parametrize(
    "values",
    [{"state": "success"}, {"latest_heartbeat": datetime.now(UTC) - timedelta(minutes=5)}],
    ids=["ended", "without heartbeat"],
)
async def test_a_component_without_a_live_process_is_unhealthy(
    airflow_database: AirflowDatabase, name: str, values: dict[str, Any]
) -> None:
    airflow_database.execute(update(Job).where(Job.job_type == JOB_TYPES[name]).values(values))
    health = await check(name)
    assert (health["status"], health["alive"]) == ("unhealthy", 0)
    assert health["message"].startswith("no ")


@pytest.mark.parametrize("dag_id", DAG_IDS)
async def test_a_paused_dag_is_unhealthy(airflow_database: AirflowDatabase, dag_id: str) -> None:
    airflow_database.execute(update(DagModel).where(DagModel.dag_id == dag_id).values(is_paused=True))
    health = await check("dags")
    assert health["status"] == "unhealthy"
    assert health["message"].startswith(f"{dag_id} is paused: ")
    assert f"`airflow dags unpause {dag_id}`" in health["message"]
    assert await AirflowMonitor().load_warnings() == [health["message"]]


@pytest.mark.parametrize(
    "statement",
    [delete(DagModel), update(DagModel).values(is_stale=True)],
    ids=["deleted", "file not found"],
)
async def test_a_missing_dag_is_unhealthy(airflow_database: AirflowDatabase, statement: Any) -> None:
    airflow_database.execute(statement.where(DagModel.dag_id == DAG_IDS[0]))
    health = await check("dags")
    assert health["status"] == "unhealthy"
    assert f"has not found {DAG_IDS[0]}:" in health["message"]


@pytest.mark.parametrize(
    ("state", "queued", "is_healthy"),
    [
        ("queued", timedelta(seconds=90), False),
        ("queued", timedelta(seconds=30), True),
        ("running", timedelta(seconds=90), True),
    ],
)
async def test_a_task_that_no_worker_starts_is_unhealthy(
    airflow_database: AirflowDatabase, state: str, queued: timedelta, *, is_healthy: bool
) -> None:
    airflow_database.add_run("run")
    airflow_database.add_task("run", state, queued)
    health = await check("workers")
    assert health.get("status", "healthy") == ("healthy" if is_healthy else "unhealthy")
    if not is_healthy:
        assert (
            "1 tasks have been queued for more than 60 s: no worker of the queue 'default'"
            in health["message"]
        )


@pytest.mark.parametrize(
    ("limit", "text"),
    [("1", "2 runs are running, and [scheduler] max_dagruns_per_loop_to_schedule is 1"), ("20", "is 20:")],
)
async def test_too_few_examined_runs_are_a_warning(
    airflow_database: AirflowDatabase, monkeypatch: pytest.MonkeyPatch, limit: str, text: str
) -> None:
    airflow_database.add_run("run 1")
    airflow_database.add_run("run 2")
    airflow_database.add_run("a backfill", backfill_id=1)
    airflow_database.add_run("finished", state="success")
    monkeypatch.setenv("AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE", limit)
    health = await check("schedulers")
    assert (health["status"], health["alive"]) == ("warning", 1)
    assert text in health["message"]
    assert await AirflowMonitor().load_warnings() == []  # events are processed at once


def test_runs_that_airflow_does_not_run_are_found(airflow_database: AirflowDatabase) -> None:
    for run_id, state in (("a", "running"), ("b", "queued"), ("c", "failed"), ("d", "success")):
        airflow_database.add_run(run_id, state)
    runs = ["gone", "a", "b", "c", "d"]
    assert airflow_status.find_ended_runs(DAG_IDS[0], runs) == ["gone", "c", "d"]
    assert airflow_status.find_ended_runs("maintain_ledger", ["a"]) == ["a"]


async def test_an_unavailable_database_does_not_prevent_the_acceptance_of_events(
    airflow_database: AirflowDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(airflow_settings, "Session", sessionmaker(create_engine("sqlite:////nowhere/at/all")))
    assert await AirflowMonitor().load_warnings() == []


async def test_requests_share_one_status(airflow_database: AirflowDatabase) -> None:
    monitor = AirflowMonitor()
    assert (await monitor.check())["dags"] == {}
    airflow_database.execute(update(DagModel).values(is_paused=True))
    assert (await monitor.check())["dags"] == {}
    monitor._started_at -= 20
    assert (await monitor.check())["dags"]["status"] == "unhealthy"
