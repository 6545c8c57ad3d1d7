"""The trigger form of process_event, which Airflow builds from the params."""

from __future__ import annotations

from pathlib import Path

from airflow.dag_processing.dagbag import DagBag

DAGS = Path(__file__).parents[2] / "dags"


def test_each_param_has_a_description() -> None:
    dag = DagBag(DAGS).dags["process_event"]
    assert list(dag.params) == ["type", "genome", "event_id", "further_fields", "events"]
    assert all(dag.params.get_param(name).description for name in dag.params)
