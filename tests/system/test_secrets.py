"""No password in any log, XCom, rendered field, trigger, serialized DAG or answer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.neighbours import SECRETS
from tests.support.running_airflow import System
from tests.system.test_process_event import LIMIT, event


def test_no_password_is_written_anywhere(system: System, genome: str) -> None:
    failing = system.start(event(genome, "old_style", fail="child"))
    broken = system.start(event(genome, "half_wrong"))
    for run_id in (failing, broken):
        system.runs.until_over(run_id, LIMIT)
    secrets = [*SECRETS, urlsplit(os.environ["RABBITMQ_URL"]).password or ""]
    assert all(len(secret) > 8 for secret in secrets)

    logs = [
        path
        for path in system.airflow.folder.rglob("*")
        if path.is_file() and "log" in path.suffix + path.name
    ]
    assert any("task_id=report" in str(path) for path in logs)
    written = {str(path): path.read_text(errors="replace") for path in logs}
    written["Airflow's database"] = _dump(system)
    written["reports"] = str(system.reports(genome))
    assert [(place, secret) for place, text in written.items() for secret in secrets if secret in text] == []


def _dump(system: System) -> str:
    (program,) = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_dump"))[-1:]
    dump = subprocess.run(
        [program, "--dbname", system.airflow.database_url],
        check=True,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert "process_event" in dump.stdout
    return dump.stdout
