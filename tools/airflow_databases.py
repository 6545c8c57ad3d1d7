"""The PostgreSQL databases of an installation of Airflow."""

from importlib.metadata import version
from urllib.parse import urlsplit

import psycopg2
import psycopg2.errors
from psycopg2 import sql

CONNECT_SECONDS = 10


def create_database(url: str, template: str = "template1") -> None:
    """
    Create a database unless it exists.

    :param url: ``postgresql://…/name``.
    :param template: the database to copy, without connections; ``template1`` is PostgreSQL's own default.
    """
    parts = urlsplit(url)
    name = parts.path.strip("/")
    server = psycopg2.connect(parts._replace(path="/postgres").geturl(), connect_timeout=CONNECT_SECONDS)
    server.autocommit = True  # CREATE DATABASE is not allowed in a transaction
    try:
        with server.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if not cursor.fetchone():
                create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
                cursor.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
    finally:
        server.close()


def read_versions(url: str) -> list[str]:
    """
    Return the version of the installed Airflow and the migration version of its tables.

    :raises psycopg2.OperationalError: the database does not exist, or the server is unreachable.
    """
    connection = psycopg2.connect(url, connect_timeout=CONNECT_SECONDS)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT version_num FROM alembic_version")
            return [version("apache-airflow"), *(row[0] for row in cursor.fetchall())]
    except psycopg2.errors.UndefinedTable:
        return ["no tables"]
    finally:
        connection.close()
