"""
Create the file ``.env`` of ``docker-compose.yaml`` with random passwords and keys.

It needs only Python. Variables of an existing file are not changed, since the volumes have its passwords
already; those that it lacks, because it is of an earlier version, are added. ``--renew`` moves it to
``.env.old`` and creates a file with new passwords.
"""

import argparse
import base64
import hashlib
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

FILE = Path(__file__).resolve().parents[1] / ".env"

USERS = ("CELERY", "REPORTS", "RABBITMQ")
"""Users of RabbitMQ: for tasks, for reports, and the administrator."""

DATABASE_USERS = ("POSTGRES", "AIRFLOW_DB", "RESULTS", "LEDGER", "MYSQL_ROOT", "MYSQL", "BEEKEEPER")
"""
Users of PostgreSQL: its administrator, and the owners of Airflow's database, Celery's results and the ledger.

Users of MySQL: its administrator, event hooks and the beekeeper.
"""


def generate_values(present: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """
    Return all variables, with new random secrets in each call.

    :param present: variables that have a value; the hash of a password that is present is of this password.
    """
    passwords = {
        name: present.get(f"{name}_PASSWORD") or secrets.token_hex(16)
        for name in (*USERS, *DATABASE_USERS, "ADMIN", "EVENT_SERVER", "GRAFANA")
    }
    return {
        "AIRFLOW_URL": "http://localhost:8080",
        **{f"{name}_PASSWORD": password for name, password in passwords.items()},
        **{f"{name}_HASH": hash_password(passwords[name]) for name in USERS},
        "FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "JWT_SECRET": secrets.token_hex(32),
        "API_SECRET": secrets.token_hex(32),
    }


def hash_password(password: str) -> str:
    """Return the hash for RabbitMQ's definitions: salt and SHA-256 (rabbitmq.com/docs/passwords)."""
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def main(file: Path = FILE, *, renew: bool = False) -> int:
    """
    Write the file, readable by its owner only.

    :return: the exit status: 1 if the file exists already, and has all variables.
    """
    is_renewed = renew and file.exists()
    if is_renewed:
        file.replace(file.with_name(f"{file.name}.old"))
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _add_missing(file)
    with os.fdopen(handle, "w") as target:
        target.write("# For docker-compose.yaml, by tools/compose_env.py\n")
        target.writelines(_format_lines(generate_values()))
    print(f"{file} was created.")
    if is_renewed:
        print("The volumes still have the passwords of .env.old. To delete them with all their data:")
        print("docker compose down --volumes")
    print("Next: docker compose up --build --detach")
    print("The web page is then http://localhost:8080; user admin, password ADMIN_PASSWORD of that file.")
    return 0


def _format_lines(values: Mapping[str, str]) -> Iterator[str]:
    return (f"{name}='{value}'\n" for name, value in values.items())


def _add_missing(file: Path) -> int:
    """Add the variables that a file lacks, and return the exit status."""
    text = file.read_text()
    lines = [line.partition("=") for line in text.splitlines()]
    present = {name.strip(): value.strip().strip("'") for name, _, value in lines}
    missing = {name: value for name, value in generate_values(present).items() if name not in present}
    if not missing:
        print(f"{file} exists and was not changed; --renew creates a new one.")
        return 1
    with file.open("a") as target:
        target.write("" if text.endswith("\n") else "\n")
        target.writelines(_format_lines(missing))
    print(f"{file} has these new variables: {', '.join(missing)}")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Create the file .env of docker-compose.yaml.")
    parser.add_argument("--renew", action="store_true", help="replace an existing file; it becomes .env.old")
    sys.exit(main(renew=parser.parse_args().renew))
