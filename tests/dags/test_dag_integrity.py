"""Every DAG file parses, cheaply, and is documented."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import Connection, Variable

DAGS = Path(__file__).parents[2] / "dags"


def unplugged(*args: object, **kwargs: object) -> NoReturn:
    raise AssertionError("a DAG file reached out while it was parsed")


@pytest.fixture
def unplug(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, no connection, no variable."""
    monkeypatch.setattr(socket.socket, "connect", unplugged)
    monkeypatch.setattr(Connection, "get", unplugged)
    monkeypatch.setattr(Variable, "get", unplugged)


@pytest.fixture
def dag_bag(unplug: None) -> DagBag:
    return DagBag(DAGS)


def test_every_file_is_one_documented_dag_of_its_name(dag_bag: DagBag) -> None:
    assert dag_bag.import_errors == {}
    assert set(dag_bag.dags) == {path.stem for path in DAGS.glob("*.py")}
    assert all(dag.doc_md and dag.tags for dag in dag_bag.dags.values())
    for dag in dag_bag.dags.values():
        assert all(task.owner == "event_hooks" for task in dag.tasks), dag.dag_id


def test_each_task_of_process_event_says_what_it_does(dag_bag: DagBag) -> None:
    assert all(task.doc_md for task in dag_bag.dags["process_event"].tasks)


@pytest.mark.alone
def test_a_file_parses_within_a_second(dag_bag: DagBag) -> None:
    started = time.monotonic()
    DagBag(DAGS)
    assert time.monotonic() - started < 1


IMPORTED = """
import importlib, pathlib, sys
sys.path += ["plugins", "dags"]
import event_hooks_plugin
event_hooks_plugin.EventHooksPlugin.on_load()
before = set(sys.modules)
names = {path.stem for path in pathlib.Path("dags").glob("*.py")}
for name in names:
    importlib.import_module(name)
print(*sorted(set(sys.modules) - before - names))
"""


def test_what_a_file_imports_the_processes_that_fork_have_already() -> None:
    imported = subprocess.run(
        [sys.executable, "-c", IMPORTED], cwd=DAGS.parent, capture_output=True, text=True, check=True
    ).stdout
    assert imported.split("\n")[-2] == ""


def test_the_web_page_lets_every_dag_be_triggered_as_it_is(dag_bag: DagBag) -> None:
    """Its form wants a text, or a list, that is not empty, unless null is allowed, or its button is grey."""
    for dag in dag_bag.dags.values():
        for name, value in dag.params.dump().items():
            kinds = dag.params.get_param(name).schema.get("type", "null")
            assert value not in ("", [], None) or "null" in kinds, f"{dag.dag_id}: {name}"


def test_a_process_is_a_group_of_submit_and_wait(dag_bag: DagBag) -> None:
    dag = dag_bag.dags["process_event"]
    processes = ("dump_dna", "dump_peptide")
    assert set(dag.task_ids) == {"route", "report"} | {
        f"{process}.{task}" for process in processes for task in ("submit", "wait")
    }
    for process in processes:
        assert dag.task_dict[f"{process}.submit"].upstream_task_ids == {"route"}
        assert dag.task_dict[f"{process}.wait"].upstream_task_ids == {f"{process}.submit"}
    assert dag.task_dict["report"].is_teardown


def test_no_template_of_a_wait_hangs_the_triggerer(dag_bag: DagBag) -> None:
    """Without map_indexes, xcom_pull sends a message that Airflow 3.3.2's triggerer cannot decode."""
    for dag in dag_bag.dags.values():
        for task in dag.tasks:
            if task.start_from_trigger:
                kwargs = task.start_trigger_args.trigger_kwargs
                templates = [value for value in kwargs.values() if isinstance(value, str) and "{{" in value]
                assert templates
                assert all(value.count("xcom_pull(") == value.count("map_indexes=-1") for value in templates)


def test_a_broken_lookup_is_an_import_error_that_names_it(
    dag_bag: DagBag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And process_event goes on with the lookups that were good when it was parsed before."""
    broken = tmp_path / "process_lookup.json"
    broken.write_text(json.dumps({"dump_dna": {"analysis": 5, "hive_conn_id": "hive"}}))
    monkeypatch.setenv("PROCESS_LOOKUP", str(broken))
    bag = DagBag(DAGS)
    ((file, error),) = bag.import_errors.items()
    assert Path(file).name == "check_lookups.py"
    assert bag.dags["process_event"].task_ids == dag_bag.dags["process_event"].task_ids
    assert f"{broken}: dump_dna.analysis: expected string, not int" in error
