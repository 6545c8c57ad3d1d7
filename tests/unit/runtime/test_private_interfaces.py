"""Airflow's private interfaces still have the signatures that event_hooks.runtime uses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock, create_autospec

import pytest
from airflow.exceptions import DagRunAlreadyExists
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ErrorResponse, TaskStatesResult

from event_hooks.runtime import api_server, stats, supervisor

IDS = {"dag_id": "dag", "task_id": "task", "run_id": "run"}


@pytest.fixture
def supervisor_comms(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """The channel to the supervisor, which exists only in tasks and triggerers."""
    comms = Mock(send=Mock(return_value=None), asend=AsyncMock())
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
    return comms


def test_a_task_triggers_a_run_with_a_note(supervisor_comms: Mock) -> None:
    supervisor.trigger_run("dag", "run", {"events": []}, "note")
    (message,) = supervisor_comms.send.call_args.args
    assert (message.dag_id, message.run_id, message.conf, message.note) == (
        "dag",
        "run",
        {"events": []},
        "note",
    )


def test_triggering_a_run_again_from_a_task_is_no_error(supervisor_comms: Mock) -> None:
    supervisor_comms.send.return_value = ErrorResponse(error=ErrorType.DAGRUN_ALREADY_EXISTS)
    supervisor.trigger_run("dag", "run", {}, None)
    supervisor_comms.send.return_value = ErrorResponse(error=ErrorType.GENERIC_ERROR)
    with pytest.raises(RuntimeError, match="run run could not be started"):
        supervisor.trigger_run("dag", "run", {}, None)
    supervisor_comms.send.side_effect = AirflowRuntimeError(supervisor_comms.send.return_value)
    with pytest.raises(RuntimeError, match="run run could not be started"):
        supervisor.trigger_run("dag", "run", {}, None)


async def test_a_trigger_loads_the_state_of_its_task(supervisor_comms: Mock) -> None:
    supervisor_comms.asend.return_value = TaskStatesResult(task_states={"run": {"task": "failed"}})
    assert await supervisor.load_task_state(**IDS) == "failed"


async def test_a_trigger_loads_and_stores_xcoms(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = create_autospec(supervisor.XCom)
    backend.aget_one.return_value = "value"
    monkeypatch.setattr(supervisor, "XCom", backend)
    await supervisor.store_xcom("key", "value", **IDS)
    assert await supervisor.load_xcom("key", **IDS) == "value"


@pytest.mark.parametrize(("error", "is_started"), [(None, True), (DagRunAlreadyExists(Mock()), False)])
def test_the_api_server_triggers_a_run_once(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, is_started: bool
) -> None:
    monkeypatch.setattr(api_server, "trigger_dag", create_autospec(api_server.trigger_dag, side_effect=error))
    assert api_server.trigger_run("dag", "run", {"events": []}, "note", "user") is is_started


def test_metrics_are_sent_with_normalized_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, Any] = {}
    fake = SimpleNamespace(
        gauge=create_autospec(
            stats.stats.gauge, side_effect=lambda name, value, **kwargs: sent.update(kwargs)
        ),
        normalize_name_for_stats=stats.stats.normalize_name_for_stats,
    )
    monkeypatch.setattr(stats, "stats", fake)
    monkeypatch.setattr(stats, "is_enabled", lambda: True)
    stats.set_gauge("event_hooks.jobs_waiting", 1, {"hive": "a,b"})
    assert sent["tags"] == {"hive": "a_b"}
