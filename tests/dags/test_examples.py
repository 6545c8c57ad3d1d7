"""The examples parse without errors, and are scheduled on assets of `process_event`."""

from __future__ import annotations

from pathlib import Path

from airflow.dag_processing.dagbag import DagBag

CHECKOUT = Path(__file__).parents[2]


def test_an_example_is_scheduled_on_an_asset_of_process_event() -> None:
    examples, dags = DagBag(CHECKOUT / "examples"), DagBag(CHECKOUT / "dags")
    assert examples.import_errors == {}
    assert set(examples.dags) == {path.stem for path in (CHECKOUT / "examples").glob("*.py")}
    produced = {asset for task in dags.dags["process_event"].tasks for asset in (*task.inlets, *task.outlets)}
    for dag in examples.dags.values():
        scheduled = dag.timetable.asset_condition.objects
        assert scheduled
        assert set(scheduled) <= produced


def test_each_wait_has_the_assets_of_its_types_and_its_process() -> None:
    dag = DagBag(CHECKOUT / "dags").dags["process_event"]
    assets = {
        task.task_id: ([asset.name for asset in task.inlets], [asset.name for asset in task.outlets])
        for task in dag.tasks
        if task.inlets or task.outlets
    }
    assert assets == {
        "dump_dna.wait": (["event/new_assembly"], ["process/dump_dna"]),
        "dump_peptide.wait": (["event/new_assembly", "event/new_genebuild"], ["process/dump_peptide"]),
    }
