"""Every DAG file parses fast, without network access, and is documented."""

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


def fail_on_access(*args: object, **kwargs: object) -> NoReturn:
    raise AssertionError("a DAG file used the network, a connection or a variable while it was parsed")


@pytest.fixture
def without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail on each use of the network, of a connection and of a variable."""
    monkeypatch.setattr(socket.socket, "connect", fail_on_access)
    monkeypatch.setattr(Connection, "get", fail_on_access)
    monkeypatch.setattr(Variable, "get", fail_on_access)


@pytest.fixture
def dag_bag(without_network: None) -> DagBag:
    return DagBag(DAGS)


def test_each_file_has_one_documented_dag_of_its_name(dag_bag: DagBag) -> None:
    assert dag_bag.import_errors == {}
    assert set(dag_bag.dags) == {path.stem for path in DAGS.glob("*.py")}
    assert all(dag.doc_md and dag.tags for dag in dag_bag.dags.values())
    for dag in dag_bag.dags.values():
        assert all(task.owner == "event_hooks" for task in dag.tasks), dag.dag_id


def test_each_task_of_process_event_is_documented(dag_bag: DagBag) -> None:
    assert all(task.doc_md for task in dag_bag.dags["process_event"].tasks)


@pytest.mark.alone
def test_a_file_parses_within_a_second(dag_bag: DagBag) -> None:
    started = time.monotonic()
    DagBag(DAGS)
    assert time.monotonic() - started < 1


IMPORT_DAGS = """
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


def test_dag_files_import_only_preloaded_modules() -> None:
    imported = subprocess.run(
        [sys.executable, "-c", IMPORT_DAGS], cwd=DAGS.parent, capture_output=True, text=True, check=True
    ).stdout
    assert imported.split("\n")[-2] == ""


def test_each_dag_can_be_triggered_with_its_default_params(dag_bag: DagBag) -> None:
    """Airflow's trigger form is disabled while a param is empty and null is not allowed."""
    for dag in dag_bag.dags.values():
        for name, value in dag.params.dump().items():
            types = dag.params.get_param(name).schema.get("type", "null")
            assert value not in ("", [], None) or "null" in types, f"{dag.dag_id}: {name}"


def test_each_process_is_a_task_group_of_submit_and_wait(dag_bag: DagBag) -> None:
    dag = dag_bag.dags["process_event"]
    processes = ("dump_dna", "dump_peptide")
    assert set(dag.task_ids) == {"route", "report"} | {
        f"{process}.{task}" for process in processes for task in ("submit", "wait")
    }
    for process in processes:
        assert dag.task_dict[f"{process}.submit"].upstream_task_ids == {"route"}
        assert dag.task_dict[f"{process}.wait"].upstream_task_ids == {f"{process}.submit"}
    assert dag.task_dict["report"].is_teardown
    assert dag.task_dict["report"].on_failure_fail_dagrun


def test_a_deadline_of_the_lookup_is_no_deadline_alert_of_airflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its call in a triggerer ends the triggerer of Airflow 3.3.2 if the run is deleted meanwhile."""
    lookup = tmp_path / "process_lookup.json"
    process = {"analysis": "dump", "hive_conn_id": "hive", "deadline": 60}
    lookup.write_text(json.dumps({"dump_dna": process, "dump_peptide": process}))
    monkeypatch.setenv("PROCESS_LOOKUP", str(lookup))
    bag = DagBag(DAGS / "process_event.py")
    assert bag.import_errors == {}
    assert bag.dags["process_event"].deadline is None


def test_waits_have_no_template_that_can_hang_the_triggerer(dag_bag: DagBag) -> None:
    """In Airflow 3.3.2, xcom_pull without map_indexes sends a message that hangs the triggerer."""
    for dag in dag_bag.dags.values():
        for task in dag.tasks:
            if task.start_from_trigger:
                kwargs = task.start_trigger_args.trigger_kwargs
                assert not any("{{" in str(value) for value in kwargs.values())
                assert kwargs["process"] == task.task_id.removesuffix(".wait")


def test_an_invalid_lookup_is_an_import_error_of_check_lookups(
    dag_bag: DagBag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The DAG process_event continues with the last valid lookups."""
    invalid = tmp_path / "process_lookup.json"
    invalid.write_text(json.dumps({"dump_dna": {"analysis": 5, "hive_conn_id": "hive"}}))
    monkeypatch.setenv("PROCESS_LOOKUP", str(invalid))
    bag = DagBag(DAGS)
    ((file, error),) = bag.import_errors.items()
    assert Path(file).name == "check_lookups.py"
    assert bag.dags["process_event"].task_ids == dag_bag.dags["process_event"].task_ids
    assert f"{invalid}: dump_dna.analysis: expected string, not int" in error
