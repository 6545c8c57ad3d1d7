"""Our own PostgreSQL, which as root runs as another user."""

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
print("started", server.ensure(), server.ensure())
server.processes.leader().kill()
print("started after its death", server.ensure())
print("runs", server.processes.leader() is not None)
server.processes.end()
print("answers", server.answers())
"""
EXPECTED = """started True False
started after its death True
runs True
answers False
"""


def test_the_server_is_found_without_the_ptrace_capability(tmp_path: Path) -> None:
    """Most containers lack it; root without it cannot read the working directory of the user postgres."""
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
    ProcessFolder(tmp_path / "postgresql").end()  # the server of a test that fails
    assert result.stdout == EXPECTED, result.stderr
