"""The PostgreSQL databases of an installation of Airflow."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from urllib.parse import quote, urlsplit

import psycopg2
import psycopg2.errors
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import encrypt_password

CONNECT_SECONDS = 10

OBJECTS = """
SELECT 'TABLE', relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
UNION ALL
SELECT 'SEQUENCE', relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'S'
AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype IN ('a', 'i'))
UNION ALL
SELECT 'TYPE', typname FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype = 'e'
"""
"""Kinds and names of all objects with an owner of their own; a sequence of a column has that of its table."""


@dataclass(frozen=True)
class Database:
    """
    A database, and a role of the same name that owns it.

    The role is not a superuser, and only it and superusers can connect to the database.

    :param server_url: of any database of the server, for a superuser.
    :param password: of the role.
    """

    server_url: str
    name: str
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        """The URL for the role."""
        parts = urlsplit(self.server_url)
        address = parts.netloc.rpartition("@")[2]
        netloc = f"{quote(self.name)}:{quote(self.password, safe='')}@{address}"
        return parts._replace(netloc=netloc, path=f"/{self.name}").geturl()

    def create(self, template: str = "template1") -> None:
        """
        Create the database unless it exists, and its role. Idempotent.

        The role also becomes the owner of a database that exists without one, as of earlier versions.

        :param template: the database to copy, without connections; ``template1`` is PostgreSQL's own default.
        """
        name = sql.Identifier(self.name)
        with _open_cursor(self.server_url, "postgres") as cursor:
            _create_role(cursor, self.name, self.password)
            owner = _find_owner(cursor, self.name)
            if owner is None:
                create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
                cursor.execute(create.format(name, sql.Identifier(template)))
            if owner != self.name:
                cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
                _change_owner_of_objects(self.server_url, self.name)
                # Last: the owner of the database shows that the role owns all objects
                cursor.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, name))

    def drop(self) -> None:
        """Drop the database and its role, even if it is in use."""
        name = sql.Identifier(self.name)
        with _open_cursor(self.server_url, "postgres") as cursor:
            cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            cursor.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(name))


@contextmanager
def _open_cursor(server_url: str, database: str) -> Iterator[Cursor]:
    url = urlsplit(server_url)._replace(path=f"/{database}").geturl()
    with closing(psycopg2.connect(url, connect_timeout=CONNECT_SECONDS)) as connection:
        connection.autocommit = True  # CREATE DATABASE is not allowed in a transaction
        with connection.cursor() as cursor:
            yield cursor


def _create_role(cursor: Cursor, name: str, password: str) -> None:
    """Create a role, or change its password; the statement, which a log may show, only has the hash."""
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,))
    verb = "ALTER" if cursor.fetchone() else "CREATE"
    rights = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    statement = sql.SQL(f"{verb} ROLE {{}} {rights} PASSWORD {{}}")
    password_hash = encrypt_password(password, name, cursor.connection, "scram-sha-256")
    cursor.execute(statement.format(sql.Identifier(name), sql.Literal(password_hash)))


def _find_owner(cursor: Cursor, database: str) -> str | None:
    cursor.execute("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", (database,))
    row = cursor.fetchone()
    return row[0] if row else None


def _change_owner_of_objects(server_url: str, name: str) -> None:
    with _open_cursor(server_url, name) as cursor:
        cursor.execute(OBJECTS)
        for kind, object_name in cursor.fetchall():
            statement = sql.SQL(f"ALTER {kind} public.{{}} OWNER TO {{}}")
            cursor.execute(statement.format(sql.Identifier(object_name), sql.Identifier(name)))


def read_versions(url: str) -> list[str]:
    """
    Return the version of the installed Airflow and the migration version of its tables.

    :raises psycopg2.OperationalError: the database does not exist, or the server is unreachable.
    """
    with closing(psycopg2.connect(url, connect_timeout=CONNECT_SECONDS)) as connection:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT version_num FROM alembic_version")
                return [version("apache-airflow"), *(row[0] for row in cursor.fetchall())]
        except psycopg2.errors.UndefinedTable:
            return ["no tables"]
