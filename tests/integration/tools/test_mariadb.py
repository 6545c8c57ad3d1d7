"""The MariaDB server of the development tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.mariadb import MariaDB


def test_the_server_starts_in_a_path_with_a_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MYSQL_URL", raising=False)
    server = MariaDB(tmp_path / "my project")
    try:
        assert server.ensure_running()
        assert server.is_available()
    finally:
        server.processes.stop()
