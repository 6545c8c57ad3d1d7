"""The secret scan of `make lint`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tools.airflow_services import CHECKOUT, PROGRAMS

SCAN = str(PROGRAMS / "detect-secrets-hook")


@pytest.fixture
def baseline(tmp_path: Path) -> str:
    """A copy of the baseline, because the scan updates the line numbers in it."""
    return str(shutil.copy(CHECKOUT / ".secrets.baseline", tmp_path))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)


def test_no_file_has_a_secret_outside_the_baseline(baseline: str) -> None:
    files = run("git", "ls-files", "-z").stdout.rstrip("\0").split("\0")
    scan = run(SCAN, "--baseline", baseline, *files)
    assert scan.returncode == 0, scan.stdout


def test_a_secret_is_detected(baseline: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.py"
    file.write_text('AWS_KEY = "AKIA' + "Z7QWERTYUIOPASDF" + '"\nURL = "mysql://user:' + 'hunter2@host/db"\n')
    scan = run(SCAN, "--baseline", baseline, str(file))
    assert scan.returncode == 1
    assert "AWS Access Key" in scan.stdout
    assert "Basic Auth" in scan.stdout
