"""The role of each PostgreSQL database has permissions in this database only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from uuid import uuid4

import psycopg2
import psycopg2.errors
import pytest

from tools.airflow_databases import Database

TABLES = """
CREATE TYPE state AS ENUM ('new');
CREATE SEQUENCE free_sequence;
CREATE TABLE item (id SERIAL PRIMARY KEY, other BIGINT GENERATED ALWAYS AS IDENTITY, state state);
INSERT INTO item (state) VALUES ('new')
"""


@pytest.fixture
def new_database() -> Iterator[Callable[[], Database]]:
    """A function that returns a database that does not exist yet; it is dropped at the end."""
    with ExitStack() as stack:

        def build() -> Database:
            database = Database(os.environ["POSTGRES_URL"], f"roles_{uuid4().hex[:16]}", uuid4().hex)
            stack.callback(database.drop)
            return database

        yield build


def execute(url: str, statement: str) -> None:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        connection.cursor().execute(statement)


def admin_url(database: Database) -> str:
    return f"{os.environ['POSTGRES_URL'].rpartition('/')[0]}/{database.name}"


def test_a_role_can_use_its_own_database_only(new_database: Callable[[], Database]) -> None:
    database, other = new_database(), new_database()
    database.create()
    other.create()
    execute(database.url, TABLES)
    address = f"{database.url.rpartition('/')[0]}/{other.name}"
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        execute(address, "SELECT 1")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('/')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "CREATE DATABASE another_database",
        "CREATE ROLE another_role",
        "ALTER ROLE CURRENT_USER SUPERUSER",
    ],
)
def test_a_role_has_no_permission_on_the_server(new_database: Callable[[], Database], statement: str) -> None:
    database = new_database()
    database.create()
    execute(admin_url(database), "SELECT pg_read_file('/etc/passwd')")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        execute(database.url, statement)


def test_a_copy_belongs_to_its_own_role(new_database: Callable[[], Database]) -> None:
    template, copy = new_database(), new_database()
    template.create()
    execute(template.url, TABLES)
    copy.create(template.name)
    copy.create(template.name)
    execute(copy.url, "ALTER TYPE state ADD VALUE 'done'; ALTER SEQUENCE free_sequence RESTART 7")
    execute(copy.url, "ALTER TABLE item ADD name TEXT; INSERT INTO item (state) VALUES ('done')")
    execute(template.url, "ALTER TABLE item ADD name TEXT")
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        execute(f"{template.url.rpartition('/')[0]}/{copy.name}", "SELECT 1")


def test_a_database_without_a_role_gets_one(new_database: Callable[[], Database]) -> None:
    """Earlier versions created all databases as the administrator."""
    database = new_database()
    execute(os.environ["POSTGRES_URL"], f"CREATE DATABASE {database.name}")
    execute(admin_url(database), TABLES)
    database.create()
    execute(database.url, "ALTER TABLE item ADD name TEXT; ALTER TYPE state ADD VALUE 'done'")
    with closing(psycopg2.connect(database.url)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT datacl::text FROM pg_database WHERE datname = current_database()")
        (permissions,) = cursor.fetchone() or ("",)
    assert f"{database.name}=CTc/{database.name}" in permissions
    assert "{=" not in permissions
    assert ",=" not in permissions
