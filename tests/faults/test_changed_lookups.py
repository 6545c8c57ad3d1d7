"""Lookup files that change, or become invalid, while events are unfinished."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.system import WAIT_SECONDS, System
from tests.system.events import practice_event
from tools.runs import DAG_PATH


@contextmanager
def changed(system: System, change: Callable[[dict[str, Path]], None]) -> Iterator[None]:
    """Change the lookup files and have Airflow parse them; restore them at the end."""
    files = system.installation.lookup_files
    before = {name: file.read_text() for name, file in files.items()}
    try:
        change(files)
        system.parse_dag_files()
        yield
    finally:
        for name, file in files.items():
            file.write_text(before[name])
        system.parse_dag_files()


def test_an_invalid_lookup_is_an_import_error_and_the_last_valid_one_is_used(
    system: System, genome: str
) -> None:
    def make_invalid(files: dict[str, Path]) -> None:
        files["event_lookup"].write_text('{"new_assembly": ["dump_rna"]}')

    with changed(system, make_invalid):
        system.wait(lambda: list_import_errors(system), lambda: "no import error")
        _, state = system.run(practice_event(genome, "new_genebuild"))
        (error,) = list_import_errors(system)
    assert state == "success"
    lookup = system.installation.lookup_files["event_lookup"]
    assert f"{lookup}: new_assembly[0]: expected a process of the process lookup" in error["stack_trace"]
    assert system.list_routing_keys(genome) == ["report.info"]
    system.wait(lambda: not list_import_errors(system), lambda: "the import error stays")


def list_import_errors(system: System) -> list[dict[str, Any]]:
    response = system.runs.request("GET", "/importErrors")
    response.raise_for_status()
    errors: list[dict[str, Any]] = response.json()["import_errors"]
    return errors


def test_events_are_reported_although_their_type_or_process_was_removed(system: System, genome: str) -> None:
    """Of old_style both type and process are removed, of old_type only the type."""
    process, event_type = f"{genome}_process", f"{genome}_type"
    runs = [
        system.start(practice_event(process, "old_style", seconds=3)),
        system.start(practice_event(event_type, "old_type", seconds=3)),
    ]
    system.wait_for_task(runs[0], "dump_old.wait", "deferred")
    system.wait_for_task(runs[1], "dump_peptide.wait", "deferred")

    def remove(files: dict[str, Path]) -> None:
        for file, names in zip(files.values(), (("old_style", "old_type"), ("dump_old",)), strict=True):
            content = json.loads(file.read_text())
            for name in names:
                del content[name]
            file.write_text(json.dumps(content))

    with changed(system, remove):
        system.wait(lambda: "old_style" not in list_offered_types(system), lambda: "the type stays")
        assert [system.runs.wait_finished(run_id, WAIT_SECONDS) for run_id in runs] == ["failed", "success"]
    system.wait(lambda: "old_style" in list_offered_types(system), lambda: "the type does not return")
    assert system.list_routing_keys(event_type) == ["report.info"]
    reports = {report["routing_key"]: report["message"] for report in system.reports(process)}
    assert set(reports) == {"report.info", "report.fatal"}
    assert "removed from the lookup while its job ran" in reports["report.fatal"]


def list_offered_types(system: System) -> list[str]:
    params = system.runs.request("GET", f"{DAG_PATH}/details").json()["params"]
    offered: list[str] = params["type"]["schema"]["examples"]
    return offered
