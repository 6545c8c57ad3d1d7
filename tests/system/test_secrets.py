"""No password in any log, XCom, rendered field, trigger, serialized DAG or answer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.lookups import HIVES
from tests.support.system import WAIT_SECONDS, System


@pytest.mark.alone
def test_no_password_is_written_anywhere(system: System) -> None:
    """The output of all earlier tests is searched."""
    secrets = [*(hive.password for hive in HIVES.values()), "secret_of_metadata"]
    secrets += [urlsplit(os.environ["RABBITMQ_URL"]).password or ""]
    assert all(len(secret) > 8 for secret in secrets)

    logs = [
        path
        for path in system.airflow.folder.rglob("*")
        if path.is_file() and "log" in path.suffix + path.name
    ]
    assert any("task_id=report" in str(path) for path in logs)
    written = {str(path): path.read_text(errors="replace") for path in logs}
    for database in system.airflow.databases:
        written[database.name] = _dump(database.url)
    written["reports"] = "\n".join(system.drain_report_bodies())
    assert [(name, secret) for name, text in written.items() for secret in secrets if secret in text] == []


def _dump(url: str) -> str:
    (program,) = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_dump"))[-1:]
    dump = subprocess.run(
        [program, "--dbname", url],
        check=True,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
    )
    assert "new_genebuild" in dump.stdout
    return dump.stdout
