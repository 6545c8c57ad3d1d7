"""The scan for secrets that `make lint` does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tools.airflow_services import CHECKOUT, PROGRAMS

SCAN = str(PROGRAMS / "detect-secrets-hook")


@pytest.fixture
def baseline(tmp_path: Path) -> str:
    """A copy: the scan writes the lines at which it finds what it knows."""
    return str(shutil.copy(CHECKOUT / ".secrets.baseline", tmp_path))


def done(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)


def test_no_file_has_a_secret_that_is_not_known_to_be_harmless(baseline: str) -> None:
    listed = done("git", "ls-files", "-z").stdout.rstrip("\0").split("\0")
    scanned = done(SCAN, "--baseline", baseline, *listed)
    assert scanned.returncode == 0, scanned.stdout


def test_a_secret_is_found(baseline: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.py"
    file.write_text('AWS_KEY = "AKIA' + "Z7QWERTYUIOPASDF" + '"\nURL = "mysql://user:' + 'hunter2@host/db"\n')
    scanned = done(SCAN, "--baseline", baseline, str(file))
    assert scanned.returncode == 1
    assert "AWS Access Key" in scanned.stdout
    assert "Basic Auth" in scanned.stdout
