"""Our own MariaDB."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.mariadb import MariaDB


def test_the_server_starts_in_a_path_with_a_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MYSQL_URL", raising=False)
    server = MariaDB(tmp_path / "my project")
    try:
        assert server.ensure()
        assert server.answers()
    finally:
        server.processes.end()
