"""The scan for secrets that `make lint` does."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tools.airflow_services import CHECKOUT, PROGRAMS

SCAN = [str(PROGRAMS / "detect-secrets-hook"), "--baseline", ".secrets.baseline"]


def scan(*files: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SCAN, *files], cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False
    )


def test_no_file_has_a_secret_that_is_not_known_to_be_harmless() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    scanned = scan(*listed.stdout.rstrip("\0").split("\0"))
    assert scanned.returncode == 0, scanned.stdout


def test_a_secret_is_found(tmp_path: Path) -> None:
    file = tmp_path / "settings.py"
    file.write_text('AWS_KEY = "AKIA' + "Z7QWERTYUIOPASDF" + '"\nURL = "mysql://user:' + 'hunter2@host/db"\n')
    scanned = done(*SCAN, str(file))
    assert scanned.returncode == 1
    assert "AWS Access Key" in scanned.stdout
    assert "Basic Auth" in scanned.stdout
