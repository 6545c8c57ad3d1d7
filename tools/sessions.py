"""
Sessions: a command that runs in the background, with all processes that it starts.

A session's id is the pid of its first process, the leader. Children inherit the session and leave it only
by ``setsid``. (A process group is not sufficient: Airflow creates a group for each task.) The kernel does not
reuse the id while any process of the session exists.

Sessions and start times are read from ``/proc/PID/stat``, which needs no privilege. To read a process's
working directory needs one: root without ``CAP_SYS_PTRACE``, as in most containers, cannot read that of
another user. The directory only serves to distinguish a session from a later one of the same id after the
leader has ended.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import psutil

from tools.exceptions import StackError

T = TypeVar("T")

# Positions in /proc/PID/stat after the command's name in parentheses; see proc(5)
STATE, PARENT, SESSION, START = 0, 1, 3, 19


@dataclass(frozen=True)
class ProcessStat:
    """The part of ``/proc/PID/stat`` that is used here; ``start_ticks`` are clock ticks since boot."""

    pid: int
    parent: int
    session: int
    start_ticks: int
    is_zombie: bool


@dataclass(frozen=True)
class Session:
    """
    A session that this checkout started.

    :param id: pid of the leader.
    :param start_ticks: when the leader started, so that a reused pid is not mistaken for it.
    :param namespace: as of :func:`pid_namespace`, where these numbers are valid.
    :param is_service: whether the leader is expected to run until it is stopped.
    """

    id: int
    start_ticks: int
    namespace: str
    is_service: bool

    @classmethod
    def from_pid(cls, pid: int, *, is_service: bool) -> "Session":
        """
        Return the session of a leader, which may be a zombie.

        :raises StackError: there is no such process.
        """
        stat = read_stat(pid)
        if stat is None:
            raise StackError(f"Process {pid} is missing in /proc")
        return cls(pid, stat.start_ticks, pid_namespace(), is_service)

    def leader(self) -> psutil.Process | None:
        """
        Return the leader, None if it has ended.

        :raises StackError: ``/proc`` does not show whether it has ended.
        """
        stat = self._leader_stat()
        if stat is None or stat.is_zombie or not self._is_leader(stat):
            return None
        return find_process(self.id)

    def find_pids(self, stats: Iterable[ProcessStat], folder: Path) -> set[int]:
        """
        Return the pids of the session's processes, also after the leader has ended.

        Without the leader, the session may be a later one with the same id. In this case only processes with
        a working directory in the folder count.

        :raises StackError: ``/proc`` does not show whether the leader's pid was reused.
        """
        if self.namespace != pid_namespace():
            return set()
        leader = self._leader_stat()
        if leader and not self._is_leader(leader):
            return set()
        members = {stat.pid for stat in stats if stat.session == self.id}
        return members if leader else {pid for pid in members if _has_working_directory(pid, folder)}

    def _leader_stat(self) -> ProcessStat | None:
        return read_stat(self.id) if self.namespace == pid_namespace() else None

    def _is_leader(self, stat: ProcessStat) -> bool:
        return stat.start_ticks == self.start_ticks


@cache
def pid_namespace() -> str:
    """Return an identifier of the boot and the container, outside of which a pid is another process."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{os.readlink('/proc/self/ns/pid')}"


def _has_working_directory(pid: int, folder: Path) -> bool:
    try:
        return Path(psutil.Process(pid).cwd()).is_relative_to(folder.resolve())
    except psutil.Error:  # the process has ended, or it belongs to another user
        return False


def read_stat(pid: int) -> ProcessStat | None:
    """
    Return the state of a process, None if there is none.

    A process that ``/proc`` hides belongs to another user. Only root starts processes as another user, so for
    an ordinary user the process does not belong to the stack.

    :raises StackError: root has no access to a process that exists.
    """
    stat = _read_stat(pid)
    if stat is None and os.geteuid() == 0 and is_pid_in_use(pid):
        stat = _read_stat(pid)  # it may have started since the first attempt
        if stat is None and is_pid_in_use(pid):
            raise StackError(
                f"Process {pid} exists, and /proc hides its state: the mount option hidepid does this. "
                "Mount /proc without it."
            )
    return stat


def _read_stat(pid: int) -> ProcessStat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    fields = text.rpartition(")")[2].split()
    return ProcessStat(
        pid, int(fields[PARENT]), int(fields[SESSION]), int(fields[START]), fields[STATE] in ("Z", "X")
    )


def is_pid_in_use(pid: int) -> bool:
    """Return whether a process has a pid, even if ``/proc`` hides it, unlike ``psutil.pid_exists``."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def read_all_stats() -> list[ProcessStat]:
    """Return the state of all processes that ``/proc`` shows."""
    return [stat for pid in psutil.pids() if (stat := _read_stat(pid))]


def with_descendants(values: Mapping[int, T], stats: Iterable[ProcessStat]) -> dict[int, T]:
    """
    Return the values with those of all descendants, which may be in other sessions.

    PostgreSQL, for example, opens a session for each of its processes.

    :param values: by pid; a child gets the value of its parent.
    """
    result = dict(values)
    while children := {
        stat.pid: result[stat.parent] for stat in stats if stat.parent in result and stat.pid not in result
    }:
        result |= children
    return result


def find_process(pid: int) -> psutil.Process | None:
    """Return a process, None if it has ended."""
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def ancestors() -> set[int]:
    """Return the pids of this process and of its ancestors."""
    return {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
