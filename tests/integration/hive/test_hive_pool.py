"""The pool of hive databases: a test finds no changes of an earlier test."""

from __future__ import annotations

from pathlib import Path

import MySQLdb
import pytest

from event_hooks.hive.hook import HiveHook
from tests.integration.hive.conftest import build_inputs
from tests.integration.hives import HivePool, InitialState


def test_a_wiped_hive_equals_a_new_one(
    hive_pool: HivePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hive_pool.hives(tmp_path, monkeypatch) as make_hive:
        used = make_hive(triggers=True)
        HiveHook(used.conn_id).submit("event_dump_dna", build_inputs(2, 300))
        used.run_jobs()
        used.execute("UPDATE analysis_stats SET status = 'BLOCKED', is_excluded = 1, when_updated = NOW()")
        used.execute("UPDATE analysis_base SET max_retry_count = 9 WHERE analysis_id > 3")
        used.execute("DELETE FROM hive_meta WHERE meta_key = 'hive_sql_schema_version'")
        used.execute("INSERT INTO resource_class (name) VALUES ('other')")
    with hive_pool.hives(tmp_path, monkeypatch) as make_hive:
        hive = make_hive(triggers=True)
        assert hive.url == used.url
        assert hive.initial
        assert InitialState.read(hive.engine) == hive.initial
        counts = {name: hive.fetch_rows(f"SELECT COUNT(*) FROM `{name}`") for name in hive.initial.tables}
        assert {name for name, count in counts.items() if count != [(0,)]} == set(hive.initial.rows)


def test_an_altered_hive_is_dropped(
    hive_pool: HivePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hive_pool.hives(tmp_path, monkeypatch) as make_hive:
        altered = make_hive()
        altered.execute("ALTER TABLE job ADD COLUMN more INTEGER")
    with hive_pool.hives(tmp_path, monkeypatch) as make_hive:
        name = altered.url.rpartition("/")[2]
        assert make_hive().fetch_rows("SHOW DATABASES LIKE :name", name=name) == []


def alter_unnoticed(pool: HivePool, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Alter a table of a hive of the pool without SQLAlchemy, and close the pool."""
    with pool:
        with pool.hives(folder, patch) as make_hive:
            url = make_hive().engine.url
        login = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
        with MySQLdb.connect(database=url.database, **login) as connection, connection.cursor() as cursor:
            cursor.execute("ALTER TABLE job ADD COLUMN more INTEGER")


def test_a_change_of_a_schema_that_the_pool_missed_is_an_error(
    mysql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssertionError, match="the pool did not notice"):
        alter_unnoticed(HivePool(mysql_url, {}), tmp_path, monkeypatch)
