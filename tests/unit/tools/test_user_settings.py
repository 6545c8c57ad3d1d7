"""Settings of the user reach Airflow and ``.stack/env``; those of another stack do not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tools.stack import Stack

NAME = "AIRFLOW_CONN_HIVE_EVENT_HANDLING"
OF_THE_USER = "mysql://me:it's%20mine@hive.example.org:3306/event_handling"


def read_env(file: Path) -> dict[str, str]:
    """Return the environment of a shell that has read a file, as with ``. .stack/env``."""
    script = f". '{file}' && env -0"
    output = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, timeout=10, check=True
    ).stdout
    return dict(line.split("=", 1) for line in output.split("\0") if line)


def write_env_file(folder: Path) -> dict[str, str]:
    """Return the variables that ``make up`` writes for a shell."""
    stack = Stack(folder)
    stack.write_env(stack.airflow())
    return read_env(stack.env_file)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (NAME, OF_THE_USER),
        ("AIRFLOW_CONN_HIVE_OF_MINE", OF_THE_USER),
        ("AIRFLOW__EVENT_HOOKS__POLL_INTERVAL", "5"),
        ("PROCESS_LOOKUP", "/lookups/process_lookup.json"),
        ("AIRFLOW__API__WORKERS", "4"),
        ("AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME", "1"),
    ],
)
def test_a_setting_of_the_user_reaches_airflow_and_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert Stack(tmp_path).airflow().environment[name] == value
    assert write_env_file(tmp_path)[name] == value


def test_the_connections_of_another_stack_are_not_user_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_env_file(tmp_path / "other")
    assert other[NAME].startswith("mysql://hive_user:")
    for name, value in other.items():
        monkeypatch.setenv(name, value)
    stack = Stack(tmp_path / "own")
    assert stack.airflow().environment[NAME] == stack.connections[NAME] != other[NAME]


def test_a_setting_made_after_reading_the_file_of_a_stack_is_a_user_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**write_env_file(tmp_path), NAME: OF_THE_USER}.items():
        monkeypatch.setenv(name, value)
    assert Stack(tmp_path).airflow().environment[NAME] == OF_THE_USER


def test_a_name_that_no_shell_can_export_reaches_only_airflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MY-HIVE", OF_THE_USER)
    assert Stack(tmp_path).airflow().environment["AIRFLOW_CONN_MY-HIVE"] == OF_THE_USER
    assert write_env_file(tmp_path)[NAME]


def test_without_a_user_setting_the_practice_hive_is_used(tmp_path: Path) -> None:
    assert NAME not in os.environ
    assert Stack(tmp_path).airflow().environment[NAME].startswith("mysql://hive_user:")
