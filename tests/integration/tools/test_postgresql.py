"""The PostgreSQL server of the development tools, which runs as another user when started by root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import CHECKOUT
from tests.support.without_ptrace import WITHOUT_PTRACE
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
