"""
Background processes that a later command can find and stop.

Each :class:`ProcessFolder` stores the sessions that it started. It finds their processes by session id and
descent, which needs no privilege.
"""

import dataclasses
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from tools.exceptions import StackError
from tools.private_files import private_folder, write_private
from tools.sessions import (
    ProcessStat,
    Session,
    ancestors,
    find_process,
    read_all_stats,
    read_stat,
    with_descendants,
)

LOG_LINES_SHOWN = 15
KILL_SECONDS = 10
SESSIONS = "sessions.json"


class ProcessFolder:
    """
    A folder and the processes that were started in it.

    :param folder: working directory of the processes, with their log and the list of their sessions.
    :param stop_signal: requests the end of the processes; SIGKILL follows after a timeout.
    """

    def __init__(self, folder: Path, stop_signal: signal.Signals = signal.SIGTERM) -> None:
        self.folder = folder
        self.stop_signal = stop_signal
        self.log = folder / "log"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a service in the background; it outlives the calling process."""
        self._child = self._spawn(command, environment, is_service=True)

    def run(self, command: Sequence[str], environment: Mapping[str, str], seconds: float) -> None:
        """
        Run a command and wait for its end.

        :raises StackError: it failed or took longer than ``seconds``; with the last lines of its log.
        """
        child = self._spawn(command, environment, is_service=False)
        try:
            status = child.wait(timeout=seconds)
        except BaseException as error:
            self.stop()
            if isinstance(error, subprocess.TimeoutExpired):
                raise self.build_error(f"{command[0]} took longer than {seconds:.0f} s") from None
            raise
        self._store()
        if status:
            raise self.build_error(f"{command[0]} ended with status {status}")

    def _spawn(
        self, command: Sequence[str], environment: Mapping[str, str], *, is_service: bool
    ) -> subprocess.Popen[bytes]:
        private_folder(self.folder)
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                command,
                cwd=self.folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o077,
            )
        try:
            self._store(Session.from_pid(child.pid, is_service=is_service))
        except BaseException:
            child.kill()  # no later command could find a process that is not stored
            raise
        return child

    def _store(self, *new: Session) -> None:
        """Store sessions, without those that have ended."""
        stats = read_all_stats()
        sessions = _load_sessions(self.folder / SESSIONS)
        current = [session for session in sessions if session.find_pids(stats, self.folder)]
        content = {
            "folder": _folder_id(self.folder),
            "sessions": [dataclasses.asdict(session) for session in (*current, *new)],
        }
        write_private(self.folder / SESSIONS, json.dumps(content, indent=2) + "\n")

    def leader(self) -> psutil.Process | None:
        """
        Return the first process of the last :meth:`start`, None if it has ended.

        :raises StackError: ``/proc`` does not show whether it has ended.
        """
        if self._child:
            self._child.poll()  # otherwise it stays a zombie
        services = [session for session in _load_sessions(self.folder / SESSIONS) if session.is_service]
        return services[-1].leader() if services else None

    def kill(self) -> None:
        """Send SIGKILL to all processes of this folder, as a crash would end them."""
        stop_processes([self], is_graceful=False)

    def stop(self, seconds: float = 15) -> None:
        """Stop all processes of this folder; SIGKILL follows the stop signal after ``seconds``."""
        stop_processes([self], seconds=seconds)

    def wait(self, condition: Callable[[], bool], seconds: float, name: str) -> None:
        """
        Wait until a condition holds.

        :param name: of the condition, for the error message.
        :raises StackError: the leader ended, or the timeout was reached; with the last lines of its log.
        """
        deadline = time.monotonic() + seconds
        while True:
            leader = self.leader()  # read first: a command may fulfil the condition and then end
            if condition():
                return
            if not leader:
                raise self.build_error(f"{name} ended during its start")
            if time.monotonic() > deadline:
                raise self.build_error(f"{name} is not ready after {seconds:.0f} s")
            time.sleep(0.1)

    def build_error(self, message: str) -> StackError:
        """Return an error with the message, the last lines of the log, and its path."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return StackError(
            "\n".join([message, *(f"  | {line}" for line in lines[-LOG_LINES_SHOWN:]), f"  log: {self.log}"])
        )


def stop_processes(folders: Iterable[ProcessFolder], *, seconds: float = 15, is_graceful: bool = True) -> int:
    """
    Stop all processes that were started in some folders and in folders below them, all at the same time.

    :param seconds: timeout after which SIGKILL follows the stop signal.
    :param is_graceful: False sends SIGKILL at once.
    :return: the number of processes.
    :raises StackError: a process belongs to another user, or the kernel does not end it.
    """
    tree = _ProcessTree(folders)
    processes = tree.list_living()
    count = len(processes)
    if is_graceful and processes:
        _send_stop_signals(tree, time.monotonic() + seconds)
    _kill_all(tree)
    for file in tree.files:
        file.unlink(missing_ok=True)
    return count


def _send_stop_signals(tree: "_ProcessTree", deadline: float) -> None:
    """Send each process its stop signal once, until all have ended or the deadline is reached."""
    processes = tree.list_living()
    signalled: set[psutil.Process] = set()
    while processes and time.monotonic() < deadline:
        # Parents stop their children themselves; a child without a parent gets the signal in the next round
        for process in _find_roots(processes) - signalled:
            _send(process, tree.folder_of[process].stop_signal)
            signalled.add(process)
        time.sleep(0.05)
        processes = tree.list_living()


def _kill_all(tree: "_ProcessTree") -> None:
    deadline = time.monotonic() + KILL_SECONDS
    while processes := tree.list_living():
        if time.monotonic() > deadline:
            raise StackError(f"SIGKILL did not end, try again later: {', '.join(map(str, processes))}")
        for process in processes:
            _send(process, signal.SIGKILL)
        time.sleep(0.02)


class _ProcessTree:
    """
    The processes of the sessions in some folders and below, with their descendants, during their end.

    :ivar files: the lists of sessions.
    :ivar folder_of: all processes that were found so far, including those that have ended since.
    """

    def __init__(self, folders: Iterable[ProcessFolder]) -> None:
        self.files = {file: folder for folder in folders for file in _find_session_files(folder.folder)}
        self.folder_of: dict[psutil.Process, ProcessFolder] = {}

    def list_living(self) -> list[psutil.Process]:
        """Return the processes that have not ended, with those that they started since the last call."""
        stats = read_all_stats()
        excluded = ancestors()
        for pid, folder in with_descendants(self._find_members(stats), stats).items():
            if pid not in excluded and (process := find_process(pid)):
                self.folder_of.setdefault(process, folder)
        return [process for process in self.folder_of if _is_living(process)]

    def _find_members(self, stats: Sequence[ProcessStat]) -> dict[int, ProcessFolder]:
        """
        Return the folder of each process, by pid.

        The processes are those found before, those of stored sessions, and those of sessions that a process
        found before has opened.
        """
        opened = {process.pid: folder for process, folder in self.folder_of.items()}
        members = {process.pid: folder for process, folder in self.folder_of.items() if _is_living(process)}
        members |= {stat.pid: opened[stat.session] for stat in stats if stat.session in opened}
        for file, folder in self.files.items():
            for session in _load_sessions(file):
                members |= dict.fromkeys(session.find_pids(stats, file.parent), folder)
        return members


def _find_session_files(folder: Path) -> list[Path]:
    """Return the lists of sessions in a folder and below; servers may change the files during the search."""
    return [Path(parent, SESSIONS) for parent, _, names in os.walk(folder) if SESSIONS in names]


def _find_roots(processes: Iterable[psutil.Process]) -> set[psutil.Process]:
    """Return the processes whose parent is not among them."""
    by_pid = {process.pid: process for process in processes}
    stats = [stat for pid in by_pid if (stat := read_stat(pid))]
    return {by_pid[stat.pid] for stat in stats if stat.parent not in by_pid}


def _load_sessions(file: Path) -> list[Session]:
    """Return the sessions of a folder; empty for a copied folder, as the processes belong to the original."""
    try:
        content = json.loads(file.read_text())
        if content["folder"] != _folder_id(file.parent):
            return []
    except FileNotFoundError:
        return []
    return [Session(**values) for values in content["sessions"]]


def _folder_id(folder: Path) -> str:
    """Return an identifier of a folder on this machine that survives a renaming."""
    status = folder.stat()
    return f"{status.st_dev}:{status.st_ino}"


def _is_living(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(signal.SIGCONT)  # a suspended process would not receive the next signal
        process.send_signal(number)
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied:
        raise StackError(f"No permission to end {process}: run as its user or as root.") from None
