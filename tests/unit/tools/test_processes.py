"""What `make down` ends: all that we started, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tools.processes import ProcessFolder, StackError

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
PARENT = [sys.executable, "-c", f"import subprocess, time; subprocess.Popen({SLEEP!r}); time.sleep(60)"]
DEAF_TEXT = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""
DEAF = [sys.executable, "-c", DEAF_TEXT]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[ProcessFolder]:
    """A folder for processes."""
    folder = ProcessFolder(tmp_path / "service")
    yield folder
    folder.kill()


def living(folder: Path) -> list[int]:
    """Give the processes that work in a folder."""
    found = []
    for process in psutil.process_iter(["cwd", "status"]):
        if process.info["cwd"] == str(folder) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


def test_a_child_whose_parent_was_killed_is_ended_too(place: ProcessFolder) -> None:
    place.start(PARENT, os.environ)
    place.wait(lambda: len(living(place.folder)) == 2, 10, "parent and child")
    leader = place.leader()
    assert leader
    leader.kill()
    leader.wait(10)
    assert place.leader() is None
    assert len(living(place.folder)) == 1
    place.end()
    assert living(place.folder) == []


def test_who_does_not_hear_is_killed(place: ProcessFolder) -> None:
    place.start(DEAF, os.environ)
    place.wait(lambda: "deaf" in place.log.read_text(), 10, "deaf process")
    place.end(seconds=0.2)
    assert living(place.folder) == []


def test_what_another_started_stays(place: ProcessFolder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "service_of_another"
    elsewhere.mkdir()
    with subprocess.Popen(SLEEP, cwd=elsewhere, start_new_session=True) as other:
        place.start(SLEEP, os.environ)
        place.end()
        assert other.poll() is None
        other.kill()


def test_a_command_that_fails_is_told_with_its_last_words(place: ProcessFolder) -> None:
    with pytest.raises(StackError, match=r"(?s)ended with status 3.*no space left.*log: "):
        place.run([sys.executable, "-c", "print('no space left'); raise SystemExit(3)"], os.environ, 10)


def test_a_command_that_takes_too_long_is_ended(place: ProcessFolder) -> None:
    with pytest.raises(StackError, match="took longer than 0 s"):
        place.run(SLEEP, os.environ, 0.2)
    assert living(place.folder) == []
