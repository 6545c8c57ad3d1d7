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


def serialize(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the serialized DAG of 500 processes, each with an event type of its own."""
    names = [f"process_{number:03}" for number in range(PROCESS_COUNT)]
    processes = {name: {"analysis": f"event_{name}", "hive_conn_id": f"hive_{name[-1]}"} for name in names}
    events = {event_type: [name] for event_type, name in zip(TYPES, names, strict=True)}
    for variable, content in (("EVENT_LOOKUP", events), ("PROCESS_LOOKUP", processes)):
        (folder / variable).write_text(json.dumps(content))
        monkeypatch.setenv(variable, str(folder / variable))
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__LOOKUP_CACHE_DIR", str(folder))
    bag = DagBag(DAG_FILE)
    assert bag.import_errors == {}
    return DagSerialization.to_dict(bag.dags["process_event"])


@pytest.fixture
def serialized_dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return serialize(tmp_path, monkeypatch)


def test_only_the_dag_has_params(serialized_dag: dict[str, Any]) -> None:
    dag = serialized_dag["dag"]
    assert [task["__var"]["task_id"] for task in dag["tasks"] if "params" in task["__var"]] == []
    assert len(dag["tasks"]) == 2 + 2 * PROCESS_COUNT
    params = dict(dag["params"])
    assert params["type"]["schema"]["__var"]["examples"] == TYPES
    assert "event lookup" in params["type"]["description"]


@pytest.mark.parametrize(("has_assets", "max_bytes"), [("no", 950_000), ("yes", 1_180_000)])
def test_500_processes_need_a_megabyte(
    has_assets: str, max_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The assets of 500 event types and 500 processes take a further 240 KB."""
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__ASSET_EVENTS", has_assets)
    assert len(json.dumps(serialize(tmp_path, monkeypatch))) <= max_bytes
