"""`make down` stops all processes of the stack, and no other process."""

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
IGNORING_TEXT = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ignoring", flush=True)
time.sleep(60)
"""
IGNORING = [sys.executable, "-c", IGNORING_TEXT]

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

processes = ProcessFolder(Path(sys.argv[1]))
processes.start([sys.executable, "-c", {UNREADABLE_TEXT!r}], os.environ)
processes.wait(lambda: "unreadable" in processes.log.read_text(), 10, "process")
leader = ProcessFolder(processes.folder).leader()
try:
    leader.cwd()
    print("the working directory can be read, so this test shows nothing")
except psutil.AccessDenied:
    processes.stop()
    print("ended by", leader.wait(5))
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[ProcessFolder]:
    """A folder for processes."""
    process_folder = ProcessFolder(tmp_path / "service")
    yield process_folder
    process_folder.kill()


def store(processes: ProcessFolder, session: Session) -> None:
    """Store a session of a folder, as if its command had been started there."""
    processes.run([sys.executable, "-c", ""], os.environ, 10)
    stored = json.loads((processes.folder / SESSIONS).read_text())
    write_private(processes.folder / SESSIONS, json.dumps(stored | {"sessions": [asdict(session)]}))


def wait_for(read: Callable[[], str]) -> str:
    """Return a text as soon as there is one."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError):
            if text := read():
                return text
        time.sleep(0.01)
    raise TimeoutError


def list_living(folder: Path) -> list[int]:
    """Return the pids of the processes with this working directory."""
    pids = []
    for process in psutil.process_iter(["cwd", "status"]):
        if process.info["cwd"] == str(folder) and process.info["status"] != psutil.STATUS_ZOMBIE:
            pids.append(process.pid)
    return pids


def test_a_child_of_a_killed_parent_is_stopped(processes: ProcessFolder) -> None:
    processes.start(PARENT, os.environ)
    processes.wait(lambda: len(list_living(processes.folder)) == 2, 10, "parent and child")
    leader = processes.leader()
    assert leader
    leader.kill()
    leader.wait(10)
    assert processes.leader() is None
    assert len(list_living(processes.folder)) == 1
    processes.stop()
    assert list_living(processes.folder) == []


def test_a_process_that_ignores_the_signal_is_killed(processes: ProcessFolder) -> None:
    processes.start(IGNORING, os.environ)
    processes.wait(lambda: "ignoring" in processes.log.read_text(), 10, "process")
    processes.stop(seconds=0.2)
    assert list_living(processes.folder) == []


def test_a_process_of_another_program_is_not_stopped(processes: ProcessFolder, tmp_path: Path) -> None:
    other_folder = tmp_path / "service_of_another"
    other_folder.mkdir()
    with subprocess.Popen(SLEEP, cwd=other_folder, start_new_session=True) as other:
        processes.start(SLEEP, os.environ)
        processes.stop()
        assert other.poll() is None
        other.kill()


def test_the_error_of_a_failed_command_has_its_last_log_lines(processes: ProcessFolder) -> None:
    with pytest.raises(StackError, match=r"(?s)ended with status 3.*no space left.*log: "):
        processes.run([sys.executable, "-c", "print('no space left'); raise SystemExit(3)"], os.environ, 10)


def test_a_command_that_takes_too_long_is_ended(processes: ProcessFolder) -> None:
    with pytest.raises(StackError, match="took longer than 0 s"):
        processes.run(SLEEP, os.environ, 0.2)
    assert list_living(processes.folder) == []


def test_processes_are_found_without_the_ptrace_capability(tmp_path: Path) -> None:
    """The process forbids others to read its working directory, as the kernel does for another user's."""
    script = [*WITHOUT_PTRACE, sys.executable, "-c", WITHOUT_PTRACE_TEXT, str(tmp_path / "service")]
    result = subprocess.run(script, cwd=CHECKOUT, capture_output=True, text=True, timeout=30, check=False)
    assert result.stdout == f"ended by {-signal.SIGTERM}\n", result.stderr


def test_a_descendant_in_another_session_is_ended(processes: ProcessFolder) -> None:
    processes.start(SETSID, os.environ)
    processes.wait(lambda: len(set(map(os.getsid, list_living(processes.folder)))) == 2, 10, "second session")
    processes.stop()
    assert list_living(processes.folder) == []


def test_a_shell_in_the_folder_of_a_service_is_not_stopped(processes: ProcessFolder) -> None:
    processes.start(SLEEP, os.environ)
    with subprocess.Popen(SLEEP, cwd=processes.folder, start_new_session=True) as shell:
        processes.stop()
        assert list_living(processes.folder) == [shell.pid]
        shell.kill()


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"namespace": "another boot"}], ids=str)
def test_a_reused_pid_is_not_mistaken_for_the_service(
    processes: ProcessFolder, tmp_path: Path, change: dict[str, Any]
) -> None:
    with subprocess.Popen(SLEEP, cwd=tmp_path, start_new_session=True) as other:
        store(processes, replace(Session.from_pid(other.pid, is_service=True), **change))
        assert processes.leader() is None
        processes.stop()
        assert other.poll() is None
        other.kill()


def test_a_session_of_the_same_id_is_not_mistaken_after_the_death_of_the_leader(
    processes: ProcessFolder, tmp_path: Path
) -> None:
    """Another session may get the id, and outlive its leader as well, as a daemon does."""
    with subprocess.Popen(FORK, cwd=tmp_path, start_new_session=True) as other:
        child = int(wait_for(lambda: (tmp_path / "child").read_text()))
        other.wait(10)
    try:
        store(processes, Session(other.pid, 1, pid_namespace(), is_service=True))
        processes.stop()
        assert psutil.pid_exists(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_root_does_not_report_a_process_that_proc_hides_as_ended(
    processes: ProcessFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes.start(SLEEP, os.environ)
    with monkeypatch.context() as hidden:
        hidden.setattr(sessions, "_read_stat", lambda pid: None)
        hidden.setattr(os, "geteuid", lambda: 0)
        for _ in range(2):
            with pytest.raises(StackError, match="exists, and /proc hides its state"):
                processes.wait(lambda: False, 10, "service")
            pid_namespace.cache_clear()  # as in a new command
    assert processes.leader()


def test_a_hidden_process_of_another_user_is_not_ended(
    processes: ProcessFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(SLEEP, start_new_session=True) as other:
        store(processes, Session(other.pid, 1, pid_namespace(), is_service=True))
        with monkeypatch.context() as hidden:
            hidden.setattr(sessions, "_read_stat", lambda pid: None)
            hidden.setattr(os, "geteuid", lambda: 1000)
            assert processes.leader() is None
            processes.stop()
        assert other.poll() is None
        other.kill()


def test_a_process_that_is_started_during_the_stop_is_ended(processes: ProcessFolder) -> None:
    """A descendant in another session forks when it gets the signal, and ends."""
    processes.start(LATE_FORK, os.environ)
    processes.wait(lambda: "ready" in processes.log.read_text(), 10, "descendant")
    processes.stop(seconds=1)
    assert list_living(processes.folder) == []


def test_finished_sessions_are_removed_from_the_list(processes: ProcessFolder) -> None:
    for _ in range(3):
        processes.run([sys.executable, "-c", ""], os.environ, 10)
    assert json.loads((processes.folder / SESSIONS).read_text())["sessions"] == []


def test_a_copied_folder_does_not_stop_the_original_processes(
    processes: ProcessFolder, tmp_path: Path
) -> None:
    processes.start(SLEEP, os.environ)
    shutil.copytree(processes.folder, tmp_path / "copy")
    copy = ProcessFolder(tmp_path / "copy")
    assert copy.leader() is None
    copy.stop()
    assert processes.leader()


def test_the_processes_of_a_renamed_folder_are_found(processes: ProcessFolder, tmp_path: Path) -> None:
    processes.start(SLEEP, os.environ)
    leader = processes.leader()
    processes.folder.rename(tmp_path / "renamed")
    renamed = ProcessFolder(tmp_path / "renamed")
    assert renamed.leader() == leader
    renamed.stop()
    assert list_living(tmp_path / "renamed") == []
