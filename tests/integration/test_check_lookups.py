"""The DAG check_lookups, whose tasks query the hives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

from event_hooks.exceptions import AnalysisNotFound
from event_hooks.notifier_settings import NotifierInvalid
from tests.integration.hives import MakeHive

DAGS = Path(__file__).parents[2] / "dags"


def test_each_process_is_checked_and_a_missing_analysis_fails_its_task(
    make_hive: MakeHive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hive = make_hive()
    processes = {
        name: {"analysis": analysis, "hive_conn_id": hive.conn_id}
        for name, analysis in (("dump_dna", "event_dump_dna"), ("dump_nothing", "event_dump_nothing"))
    }
    files = {
        "EVENT_LOOKUP": {"new_assembly": list(processes)},
        "PROCESS_LOOKUP": processes,
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
        monkeypatch.setenv(f"AIRFLOW__EVENT_HOOKS__{name}", str(tmp_path / name))
    dag = DagBag(DAGS / "check_lookups.py").dags["check_lookups"]
    assert set(dag.task_ids) == set(processes)
    check = {task.task_id: task.python_callable for task in dag.tasks}  # type: ignore[attr-defined]
    check["dump_dna"]("dump_dna")
    with pytest.raises(AnalysisNotFound, match="no analysis 'event_dump_nothing'"):
        check["dump_nothing"]("dump_nothing")


def test_a_notifier_that_cannot_be_built_fails_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    notifier = {"class": "no.such.Notifier", "on": ["failed"]}
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__NOTIFIERS", json.dumps([notifier]))
    dag = DagBag(DAGS / "check_lookups.py").dags["check_lookups"]
    (check,) = [task for task in dag.tasks if task.task_id == "settings.notifiers"]
    with pytest.raises(NotifierInvalid, match=r"notifiers\[0\].class: expected a class that can be imported"):
        check.python_callable()  # type: ignore[attr-defined]
