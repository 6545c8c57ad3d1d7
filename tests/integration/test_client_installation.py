"""The client and its command, installed with ``pip install .`` and without Airflow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from event_hooks import __version__

CHECKOUT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

PROGRAM = """
from event_hooks.client import EventClient
with EventClient() as client:
    event_id: str = client.submit({"type": "a"})["id"]
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment that has only the wheel and its dependencies."""
    folder = tmp_path_factory.mktemp("client")
    python = folder / "venv/bin/python"
    subprocess.run([BIN / "uv", "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    wheel = [BIN / "uv", "build", "--quiet", "--wheel", "--out-dir", folder, CHECKOUT]
    subprocess.run(wheel, check=True)
    constraint = ["--constraint", CHECKOUT / "requirements.txt"]
    install = [
        BIN / "uv",
        "pip",
        "install",
        "--quiet",
        "--python",
        python,
        *constraint,
        *folder.glob("*.whl"),
    ]
    subprocess.run(install, check=True)
    return folder


def run(environment: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=environment, env=variables, capture_output=True, text=True)


def test_the_command_runs_without_airflow(environment: Path) -> None:
    assert run(environment, "venv/bin/python", "-c", "import airflow").returncode == 1
    assert run(environment, "venv/bin/event-hooks", "--version").stdout == f"event-hooks {__version__}\n"
    lint = run(environment, "venv/bin/event-hooks", "lint", "--offline")
    assert (lint.returncode, lint.stderr[:37]) == (2, "event-hooks: lint needs the packages ")


def test_a_type_checker_knows_the_results(environment: Path) -> None:
    (environment / "program.py").write_text(PROGRAM)
    options = ["--strict", "--config-file=", "--python-executable=venv/bin/python"]
    checked = run(environment, BIN / "mypy", *options, "program.py")
    (error, _) = checked.stdout.splitlines()
    assert error.startswith(
        'program.py:4: error: Incompatible types in assignment (expression has type "int"'
    )
