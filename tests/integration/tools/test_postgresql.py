"""The PostgreSQL server of the development tools, which runs as another user when started by root."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import psycopg2
import psycopg2.errors
import pytest

from tests.conftest import CHECKOUT
from tests.support.without_ptrace import WITHOUT_PTRACE
from tools.postgresql import PostgreSQL
from tools.processes import ProcessFolder

TEXT = """
import signal, sys
from pathlib import Path
from tools.postgresql import PostgreSQL

server = PostgreSQL(Path(sys.argv[1]))
print("started", server.ensure_running(), server.ensure_running())
server.processes.leader().kill()
print("started after its death", server.ensure_running())
print("runs", server.processes.leader() is not None)
server.processes.stop()
print("answers", server.is_available())
"""
EXPECTED = """started True False
started after its death True
runs True
answers False
"""


def test_the_server_is_found_without_the_ptrace_capability(tmp_path: Path) -> None:
    """Most containers lack the capability; without it, root cannot read the working directory of postgres."""
    environment = {name: value for name, value in os.environ.items() if name != "POSTGRES_URL"}
    result = subprocess.run(
        [*WITHOUT_PTRACE, sys.executable, "-c", TEXT, str(tmp_path / "postgresql")],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    ProcessFolder(tmp_path / "postgresql").stop()  # Stops the server of a failed test.
    assert result.stdout == EXPECTED, result.stderr


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgreSQL]:
    """A server in a folder that only its owner can enter."""
    monkeypatch.delenv("POSTGRES_URL", raising=False)
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    server = PostgreSQL(folder / "postgresql")
    server.ensure_running()
    yield server
    server.processes.stop()


def test_the_server_has_no_capabilities(server: PostgreSQL) -> None:
    leader = server.processes.leader()
    assert leader
    processes = {leader: read_capabilities(leader)}
    for process in leader.children(recursive=True):
        with suppress(FileNotFoundError):  # such as a worker of autovacuum that has ended
            processes[process] = read_capabilities(process)
    assert len(processes) > 3
    assert set(processes.values()) == {("0" * 16,) * 4}
    assert leader.uids().effective != 0


def read_capabilities(process: psutil.Process) -> tuple[str, ...]:
    """Return the inheritable, permitted, effective and ambient capabilities."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    values = dict(line.split(":\t", 1) for line in lines if line.startswith("Cap"))
    return tuple(values[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"))


def test_a_superuser_cannot_read_files_of_root(server: PostgreSQL) -> None:
    with closing(psycopg2.connect(server.url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_read_file('/etc/passwd')")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="Permission denied"):
            cursor.execute("SELECT pg_read_file('/etc/shadow')")
