"""The MariaDB server of the development tools."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import MySQLdb
import pytest

from tools.mariadb import MariaDB

USER = {"user": "some_user", "password": uuid4().hex}


def test_the_server_starts_in_a_path_with_a_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MYSQL_URL", raising=False)
    server = MariaDB(tmp_path / "my project")
    try:
        assert server.ensure_running()
        assert server.is_available()
    finally:
        server.processes.stop()


def test_a_user_has_the_granted_privileges_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier versions granted DELETE in the practice hive, too."""
    monkeypatch.delenv("MYSQL_URL", raising=False)
    server = MariaDB(tmp_path / "mariadb")
    try:
        server.ensure_running()
        with server.connect() as connection:
            connection.cursor().execute("CREATE DATABASE hive")
        server.grant(**USER, database="hive", privileges="SELECT, DELETE")
        server.grant(**USER, database="hive", privileges="SELECT, INSERT")
        with MySQLdb.connect(host=server.host, port=server.port, **USER) as connection:
            cursor = connection.cursor()
            cursor.execute("SHOW GRANTS")
            grants = [row[0].partition(" TO ")[0] for row in cursor.fetchall()]
    finally:
        server.processes.stop()
    assert grants == ["GRANT USAGE ON *.*", "GRANT SELECT, INSERT ON `hive`.*"]
