"""Print permissions that this container has, as JSON; runs in a worker."""

import json
import os
import re
import shutil
from urllib.parse import SplitResult, urlsplit

import psycopg2
from sqlalchemy import create_engine

COMPILERS = ("cc", "gcc", "g++", "clang", "ld")


def can_connect(address: SplitResult, database: str) -> bool:
    """Return whether the user of an address can connect to a database of the same server."""
    try:
        psycopg2.connect(address._replace(path=f"/{database}").geturl()).close()
    except psycopg2.OperationalError:
        return False
    return True


def list_databases() -> dict[str, list[str]]:
    """Return the databases that each user of PostgreSQL in the environment can connect to."""
    addresses = [urlsplit(value.removeprefix("db+")) for value in os.environ.values()]
    users = {str(item.username): item for item in addresses if item.scheme == "postgresql"}
    names = ("airflow", "celery", "event_ledger", "postgres", "template1")
    return {user: [name for name in names if can_connect(item, name)] for user, item in users.items()}


def list_hive_privileges() -> list[str]:
    """Return the privileges of event hooks in the hive, without that to log in."""
    url = os.environ["AIRFLOW_CONN_HIVE_EVENT_HANDLING"].replace("mysql:", "mysql+mysqldb:", 1)
    with create_engine(url).connect() as connection:
        grants = [row[0] for row in connection.exec_driver_sql("SHOW GRANTS")]
    privileges = [re.fullmatch(r"GRANT (.*) ON .*", grant) for grant in grants]
    names = {name for match in privileges if match for name in match[1].split(", ")}
    return sorted(names - {"USAGE"})


def main() -> None:
    """Print the permissions."""
    permissions = {
        "compilers": [name for name in COMPILERS if shutil.which(name)],
        "databases": list_databases(),
        "hive": list_hive_privileges(),
    }
    print(json.dumps(permissions))


if __name__ == "__main__":
    main()
