"""
Processes that we start in the background, and that a later command finds again.

Each :class:`ProcessFolder` stores the sessions that it started. It finds their processes by session id and
descent, and so without any privilege.
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
    existing_process,
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

    :param folder: working directory of the processes; their log, and the list of their sessions, is in it.
    :param stop_signal: asks the processes to end; SIGKILL follows when they take too long.
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
        Run a command to its end.

        :raises StackError: it failed or took longer; with the last lines of its log.
        """
        child = self._spawn(command, environment, is_service=False)
        try:
            status = child.wait(timeout=seconds)
        except BaseException as error:
            self.end()
            if isinstance(error, subprocess.TimeoutExpired):
                raise self.failure(f"{command[0]} took longer than {seconds:.0f} s") from None
            raise
        self._store()
        if status:
            raise self.failure(f"{command[0]} ended with status {status}")

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
            self._store(Session.of(child.pid, is_service=is_service))
        except BaseException:
            child.kill()  # a process that is not stored could not be found again
            raise
        return child

    def _store(self, *new: Session) -> None:
        """Store sessions, without those that have ended."""
        stats = read_all_stats()
        stored = [x for x in _load(self.folder / SESSIONS) if x.pids(stats, self.folder)]
        content = {
            "folder": _identity(self.folder),
            "sessions": [dataclasses.asdict(session) for session in (*stored, *new)],
        }
        write_private(self.folder / SESSIONS, json.dumps(content, indent=2) + "\n")

    def leader(self) -> psutil.Process | None:
        """
        Return the process that ``start`` started last, None if it has ended.

        :raises StackError: ``/proc`` does not show whether it has.
        """
        if self._child:
            self._child.poll()  # otherwise it stays a zombie
        services = [session for session in _load(self.folder / SESSIONS) if session.is_service]
        return services[-1].leader() if services else None

    def kill(self) -> None:
        """End everything here at once, as a crash would."""
        end([self], ask=False)

    def end(self, seconds: float = 15) -> None:
        """End everything here; SIGKILL follows the stop signal after ``seconds``."""
        end([self], seconds=seconds)

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """
        Wait until a condition holds.

        :raises StackError: the leader ended, or the timeout was reached; with the last lines of its log.
        """
        limit = time.monotonic() + seconds
        while True:
            leader = self.leader()  # read first: a command may fulfil the condition and then end
            if condition():
                return
            if not leader:
                raise self.failure(f"{what} ended while starting")
            if time.monotonic() > limit:
                raise self.failure(f"{what} is not ready after {seconds:.0f} s")
            time.sleep(0.1)

    def failure(self, message: str) -> StackError:
        """Return an error with the message, the last lines of the log, and its path."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return StackError(
            "\n".join([message, *(f"  | {x}" for x in lines[-LOG_LINES_SHOWN:]), f"  log: {self.log}"])
        )


def end(places: Iterable[ProcessFolder], *, seconds: float = 15, ask: bool = True) -> int:
    """
    End everything that was started in some folders and in folders below them, all at the same time.

    :param seconds: how long the processes may take before they are killed.
    :param ask: False kills at once.
    :return: the number of processes.
    :raises StackError: some cannot be ended: they belong to another user, or the kernel holds them.
    """
    family = _Family(places)
    processes = family.living()
    count = len(processes)
    signalled: set[psutil.Process] = set()
    deadline = time.monotonic() + seconds
    while ask and processes and time.monotonic() < deadline:
        # Parents end their children themselves; a child without a parent gets the signal in the next round
        for process in _roots(processes) - signalled:
            _send(process, family.place_of[process].stop_signal)
            signalled.add(process)
        time.sleep(0.05)
        processes = family.living()
    deadline = time.monotonic() + KILL_SECONDS
    while processes:
        if time.monotonic() > deadline:
            raise StackError(f"SIGKILL did not end, try again later: {', '.join(map(str, processes))}")
        for process in processes:
            _send(process, signal.SIGKILL)
        time.sleep(0.02)
        processes = family.living()
    for file in family.files:
        file.unlink(missing_ok=True)
    return count


class _Family:
    """
    The processes of the sessions in some folders and below, with their descendants, while they end.

    :ivar files: the lists of sessions.
    :ivar place_of: all processes that were found so far, also those that have ended since.
    """

    def __init__(self, places: Iterable[ProcessFolder]) -> None:
        self.files = {file: place for place in places for file in _session_files(place.folder)}
        self.place_of: dict[psutil.Process, ProcessFolder] = {}

    def living(self) -> list[psutil.Process]:
        """Return the processes that have not ended; includes what they have started since the last call."""
        stats = read_all_stats()
        excluded = ancestors()
        for pid, place in with_descendants(self._members(stats), stats).items():
            if pid not in excluded and (process := existing_process(pid)):
                self.place_of.setdefault(process, place)
        return [process for process in self.place_of if _lives(process)]

    def _members(self, stats: Sequence[ProcessStat]) -> dict[int, ProcessFolder]:
        """Return the known processes, and those of stored sessions and of sessions that known ones opened."""
        members = {process.pid: place for process, place in self.place_of.items() if _lives(process)}
        opened = {process.pid: place for process, place in self.place_of.items()}
        members |= {stat.pid: opened[stat.session] for stat in stats if stat.session in opened}
        for file, place in self.files.items():
            for session in _load(file):
                members |= dict.fromkeys(session.pids(stats, file.parent), place)
        return members


def _session_files(folder: Path) -> list[Path]:
    """Return the lists of sessions in a folder and below; the servers may change the tree meanwhile."""
    return [Path(parent, SESSIONS) for parent, _, names in os.walk(folder) if SESSIONS in names]


def _roots(processes: Iterable[psutil.Process]) -> set[psutil.Process]:
    """Return the processes without a parent among them."""
    by_pid = {process.pid: process for process in processes}
    stats = [stat for pid in by_pid if (stat := read_stat(pid))]
    return {by_pid[stat.pid] for stat in stats if stat.parent not in by_pid}


def _load(file: Path) -> list[Session]:
    """Return the sessions of a folder; a copied folder has none, since the processes are the original's."""
    try:
        content = json.loads(file.read_text())
        if content["folder"] != _identity(file.parent):
            return []
    except FileNotFoundError:
        return []
    return [Session(**values) for values in content["sessions"]]


def _identity(folder: Path) -> str:
    """Identify a folder on this machine; it may be renamed."""
    status = folder.stat()
    return f"{status.st_dev}:{status.st_ino}"


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(signal.SIGCONT)  # a stopped process would not receive the next one
        process.send_signal(number)
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied:
        raise StackError(f"Not permitted to end {process}: run as its user or as root.") from None
