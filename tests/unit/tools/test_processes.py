"""What `make down` ends: all that we started, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import CHECKOUT
from tests.support.without_ptrace import WITHOUT_PTRACE
from tools import sessions
from tools.exceptions import StackError
from tools.private_files import write_private
from tools.processes import SESSIONS, ProcessFolder
from tools.sessions import Session, pid_namespace

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
PARENT = [sys.executable, "-c", f"import subprocess, time; subprocess.Popen({SLEEP!r}); time.sleep(60)"]
DEAF_TEXT = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""
DEAF = [sys.executable, "-c", DEAF_TEXT]

SETSID = [sys.executable, "-c", "import os, time; os.fork() or os.setsid(); time.sleep(60)"]

LATE_FORK_TEXT = """
import os, signal, time

def fork(*_):
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)

if os.fork():
    time.sleep(60)
os.setsid()
signal.signal(signal.SIGTERM, fork)
print("ready", flush=True)
while True:
    time.sleep(60)
"""
LATE_FORK = [sys.executable, "-c", LATE_FORK_TEXT]

FORK_TEXT = """
import os, time
pid = os.fork() or time.sleep(60)
open("child", "w").write(str(pid))
"""
FORK = [sys.executable, "-c", FORK_TEXT]

UNREADABLE_TEXT = """
import ctypes, time
PR_SET_DUMPABLE = 4
ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0)
print("unreadable", flush=True)
time.sleep(60)
"""

WITHOUT_PTRACE_TEXT = f"""
import os, sys, psutil
from pathlib import Path
from tools.processes import ProcessFolder

place = ProcessFolder(Path(sys.argv[1]))
place.start([sys.executable, "-c", {UNREADABLE_TEXT!r}], os.environ)
place.wait(lambda: "unreadable" in place.log.read_text(), 10, "process")
leader = ProcessFolder(place.folder).leader()
try:
    leader.cwd()
    print("the working directory can be read, so this test shows nothing")
except psutil.AccessDenied:
    place.end()
    print("ended by", leader.wait(5))
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[ProcessFolder]:
    """A folder for processes."""
    folder = ProcessFolder(tmp_path / "service")
    yield folder
    folder.kill()


def store(place: ProcessFolder, session: Session) -> None:
    """Store a session of a folder, as if its command had been started there."""
    place.run([sys.executable, "-c", ""], os.environ, 10)
    stored = json.loads((place.folder / SESSIONS).read_text())
    write_private(place.folder / SESSIONS, json.dumps(stored | {"sessions": [asdict(session)]}))


def wait_for(read: Callable[[], str]) -> str:
    """Return a text as soon as there is one."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError):
            if text := read():
                return text
        time.sleep(0.01)
    raise TimeoutError


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


def test_processes_are_found_without_the_ptrace_capability(tmp_path: Path) -> None:
    """The process forbids others to read its working directory, as the kernel does for another user's."""
    script = [*WITHOUT_PTRACE, sys.executable, "-c", WITHOUT_PTRACE_TEXT, str(tmp_path / "service")]
    result = subprocess.run(script, cwd=CHECKOUT, capture_output=True, text=True, timeout=30, check=False)
    assert result.stdout == f"ended by {-signal.SIGTERM}\n", result.stderr


def test_a_descendant_in_another_session_is_ended_too(place: ProcessFolder) -> None:
    place.start(SETSID, os.environ)
    place.wait(lambda: len(set(map(os.getsid, living(place.folder)))) == 2, 10, "second session")
    place.end()
    assert living(place.folder) == []


def test_a_shell_in_the_folder_of_a_service_stays(place: ProcessFolder) -> None:
    place.start(SLEEP, os.environ)
    with subprocess.Popen(SLEEP, cwd=place.folder, start_new_session=True) as shell:
        place.end()
        assert living(place.folder) == [shell.pid]
        shell.kill()


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"namespace": "another boot"}], ids=str)
def test_a_reused_pid_is_not_mistaken_for_the_service(
    place: ProcessFolder, tmp_path: Path, change: dict[str, Any]
) -> None:
    with subprocess.Popen(SLEEP, cwd=tmp_path, start_new_session=True) as stranger:
        store(place, replace(Session.of(stranger.pid, is_service=True), **change))
        assert place.leader() is None
        place.end()
        assert stranger.poll() is None
        stranger.kill()


def test_a_session_of_the_same_id_is_not_mistaken_after_the_death_of_the_leader(
    place: ProcessFolder, tmp_path: Path
) -> None:
    """Another session may get the id, and outlive its leader as well, as a daemon does."""
    with subprocess.Popen(FORK, cwd=tmp_path, start_new_session=True) as stranger:
        child = int(wait_for(lambda: (tmp_path / "child").read_text()))
        stranger.wait(10)
    try:
        store(place, Session(stranger.pid, 1, pid_namespace(), is_service=True))
        place.end()
        assert psutil.pid_exists(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_root_does_not_report_a_process_that_proc_hides_as_ended(
    place: ProcessFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.start(SLEEP, os.environ)
    with monkeypatch.context() as hidden:
        hidden.setattr(sessions, "_read_stat", lambda pid: None)
        hidden.setattr(os, "geteuid", lambda: 0)
        for _ in range(2):
            with pytest.raises(StackError, match="exists, and /proc hides what it is"):
                place.wait(lambda: False, 10, "service")
            pid_namespace.cache_clear()  # as in a new command
    assert place.leader()


def test_a_hidden_process_of_another_user_is_not_ended(
    place: ProcessFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(SLEEP, start_new_session=True) as stranger:
        store(place, Session(stranger.pid, 1, pid_namespace(), is_service=True))
        with monkeypatch.context() as hidden:
            hidden.setattr(sessions, "_read_stat", lambda pid: None)
            hidden.setattr(os, "geteuid", lambda: 1000)
            assert place.leader() is None
            place.end()
        assert stranger.poll() is None
        stranger.kill()


def test_a_process_that_is_started_during_the_end_is_ended_too(place: ProcessFolder) -> None:
    """A descendant in another session forks when it gets the signal, and ends."""
    place.start(LATE_FORK, os.environ)
    place.wait(lambda: "ready" in place.log.read_text(), 10, "descendant")
    place.end(seconds=1)
    assert living(place.folder) == []


def test_the_list_of_sessions_does_not_grow(place: ProcessFolder) -> None:
    for _ in range(3):
        place.run([sys.executable, "-c", ""], os.environ, 10)
    assert json.loads((place.folder / SESSIONS).read_text())["sessions"] == []


def test_the_copy_of_a_folder_leaves_the_processes_of_the_original(
    place: ProcessFolder, tmp_path: Path
) -> None:
    place.start(SLEEP, os.environ)
    shutil.copytree(place.folder, tmp_path / "copy")
    copy = ProcessFolder(tmp_path / "copy")
    assert copy.leader() is None
    copy.end()
    assert place.leader()


def test_the_processes_of_a_renamed_folder_are_found(place: ProcessFolder, tmp_path: Path) -> None:
    place.start(SLEEP, os.environ)
    leader = place.leader()
    place.folder.rename(tmp_path / "renamed")
    renamed = ProcessFolder(tmp_path / "renamed")
    assert renamed.leader() == leader
    renamed.end()
    assert living(tmp_path / "renamed") == []
