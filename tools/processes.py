"""
Processes that we start in the background, and find again.

Each has a working folder of its own below ``.stack/``, which everything that it starts inherits. A process
that works there is ours: no list of process ids can go stale, a child whose parent was killed is found as
well, and no number that the system gives out again is mistaken. (A mark in the environment would not do:
PostgreSQL and setproctitle write over it.) A person's shell in that folder has a terminal; ours have none.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

LOG_LINES_SHOWN = 15


class StackError(Exception):
    """Something of the local stack did not start, or not in time; the text tells a person what to do."""


class ProcessFolder:
    """
    A folder and the processes that work in it.

    :param folder: its last part is the name that messages use.
    :param stop_signal: asks the processes to end; SIGKILL follows when they take too long.
    """

    def __init__(self, folder: Path, stop_signal: signal.Signals = signal.SIGTERM) -> None:
        self.folder = folder
        self.stop_signal = stop_signal
        self.log = folder / "log"
        self._leader_file = folder / "leader"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a command in the background; it outlives us."""
        self._child = self._spawn(command, environment)
        self._leader_file.write_text(str(self._child.pid))

    def run(self, command: Sequence[str], environment: Mapping[str, str], seconds: float) -> None:
        """
        Run a command to its end.

        :raises StackError: it failed or took longer; with the last lines of its log.
        """
        child = self._spawn(command, environment)
        try:
            status = child.wait(timeout=seconds)
        except BaseException as error:
            self.end()
            if isinstance(error, subprocess.TimeoutExpired):
                raise self.failure(f"{command[0]} took longer than {seconds:.0f} s") from None
            raise
        if status:
            raise self.failure(f"{command[0]} ended with status {status}")

    def _spawn(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        private_folder(self.folder)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o077,
            )

    def leader(self) -> psutil.Process | None:
        """Give the process that ``start`` started, if it lives."""
        if self._child:
            self._child.poll()  # else it stays a zombie
        try:
            leader = psutil.Process(int(self._leader_file.read_text()))
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None
        return leader if _works_in(leader, self.folder) else None

    def kill(self) -> None:
        """End everything here at once, as a crash would."""
        end([self], ask=False)

    def end(self, seconds: float = 15) -> None:
        """End everything here, politely at first."""
        end([self], seconds=seconds)

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """
        Wait until a condition holds.

        :raises StackError: the leader ended, or the time is over; with the last lines of its log.
        """
        limit = time.monotonic() + seconds
        while not condition():
            if not self.leader():
                raise self.failure(f"{what} ended while starting")
            if time.monotonic() > limit:
                raise self.failure(f"{what} is not ready after {seconds:.0f} s")
            time.sleep(0.1)

    def failure(self, message: str) -> StackError:
        """Give the error that tells what happened, where the log is and how it ends."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return StackError(
            "\n".join([message, *(f"  | {x}" for x in lines[-LOG_LINES_SHOWN:]), f"  log: {self.log}"])
        )


def end(places: Iterable[ProcessFolder], *, seconds: float = 15, ask: bool = True) -> int:
    """
    End everything that works in some folders, and what it started, all at the same time.

    :param seconds: how long they may take before they are killed.
    :param ask: False kills at once.
    :return: how many processes there were.
    """
    places = list(places)
    ours = _family(places)
    count = len(ours)
    if ask and ours:
        for process, place in ours.items():
            if process.info["ppid"] not in {other.pid for other in ours}:
                _send(process, place.stop_signal)
        limit = time.monotonic() + seconds
        while (ours := _alive(ours) | _family(places)) and time.monotonic() < limit:
            time.sleep(0.05)
    while ours:
        for process in ours:
            _send(process, signal.SIGKILL)
        time.sleep(0.02)
        ours = _alive(ours) | _family(places)  # whatever they forked meanwhile
    return count


def _family(places: Sequence[ProcessFolder]) -> dict[psutil.Process, ProcessFolder]:
    """Give the processes of each place, with their descendants wherever these work."""
    everybody = list(psutil.process_iter(["ppid"]))
    spared = {os.getpid()} | {ancestor.pid for ancestor in psutil.Process().parents()}
    ours = {
        p: place for p in everybody for place in places if p.pid not in spared and _works_in(p, place.folder)
    }
    grown = True
    while grown:
        place_of = {p.pid: place for p, place in ours.items()}
        children = {
            p: place_of[p.info["ppid"]] for p in everybody if p not in ours and p.info["ppid"] in place_of
        }
        ours |= children
        grown = bool(children)
    return _alive(ours)


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(folder) and process.terminal() is None
    except psutil.Error:  # ended, a zombie, or another user's
        return False


def _alive(processes: Mapping[psutil.Process, ProcessFolder]) -> dict[psutil.Process, ProcessFolder]:
    return {process: place for process, place in processes.items() if _lives(process)}


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(signal.SIGCONT)  # a stopped process would not hear the next one
        process.send_signal(number)
    except psutil.NoSuchProcess:
        pass


def private_folder(folder: Path) -> Path:
    """Make a folder, and its parents, that only its owner can enter."""
    for missing in reversed([p for p in (folder, *folder.parents) if not p.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    return folder
