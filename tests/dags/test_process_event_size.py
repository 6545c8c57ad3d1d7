"""The size of the serialized DAG, which Airflow stores in each version and loads for each run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

DAG_FILE = Path(__file__).parents[2] / "dags" / "process_event.py"
PROCESS_COUNT = 500
TYPES = [f"type_of_event_{number:03}" for number in range(PROCESS_COUNT)]


@pytest.fixture
def serialized_dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The serialized DAG of 500 processes, each with an event type of its own."""
    names = [f"process_{number:03}" for number in range(PROCESS_COUNT)]
    processes = {name: {"analysis": f"event_{name}", "hive_conn_id": f"hive_{name[-1]}"} for name in names}
    events = {event_type: [name] for event_type, name in zip(TYPES, names, strict=True)}
    for variable, content in (("EVENT_LOOKUP", events), ("PROCESS_LOOKUP", processes)):
        (tmp_path / variable).write_text(json.dumps(content))
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__LOOKUP_CACHE_DIR", str(tmp_path))
    bag = DagBag(DAG_FILE)
    assert bag.import_errors == {}
    return DagSerialization.to_dict(bag.dags["process_event"])


def test_only_the_dag_has_params(serialized_dag: dict[str, Any]) -> None:
    dag = serialized_dag["dag"]
    assert [task["__var"]["task_id"] for task in dag["tasks"] if "params" in task["__var"]] == []
    assert len(dag["tasks"]) == 2 + 2 * PROCESS_COUNT
    params = dict(dag["params"])
    assert params["type"]["schema"]["__var"]["examples"] == TYPES
    assert "event lookup" in params["type"]["description"]


def test_500_processes_need_little_more_than_a_megabyte(serialized_dag: dict[str, Any]) -> None:
    assert len(json.dumps(serialized_dag)) <= 1_250_000
