"""
Make the file ``.env`` of ``docker-compose.yaml``: passwords and keys that nobody else has.

Needs only Python. Keeps a file that is there, as its passwords are in the volumes already; ``--renew`` makes
other ones all the same, and moves the file to ``.env.old``.
"""

import argparse
import base64
import hashlib
import os
import secrets
import sys
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / ".env"

USERS = ("CELERY", "REPORTS", "RABBITMQ")
"""Of RabbitMQ: for tasks, for reports, and its administrator."""


def values() -> dict[str, str]:
    """Give all variables, each time with other secrets."""
    passwords = {name: secrets.token_hex(16) for name in (*USERS, "POSTGRES", "MYSQL", "ADMIN", "GRAFANA")}
    return {
        "AIRFLOW_URL": "http://localhost:8080",
        **{f"{name}_PASSWORD": password for name, password in passwords.items()},
        **{f"{name}_HASH": rabbitmq_hash(passwords[name]) for name in USERS},
        "FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "JWT_SECRET": secrets.token_hex(32),
        "API_SECRET": secrets.token_hex(32),
    }


def rabbitmq_hash(password: str) -> str:
    """Hash a password as RabbitMQ's definitions want it: salt and SHA-256 (rabbitmq.com/docs/passwords)."""
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def main(file: Path = FILE, *, renew: bool = False) -> int:
    """Write the file, for its owner alone."""
    is_renewed = renew and file.exists()
    if is_renewed:
        file.replace(file.with_name(f"{file.name}.old"))
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"{file} is there, and stays as it is; --renew makes another one.")
        return 1
    with os.fdopen(handle, "w") as written:
        written.write("# Of docker-compose.yaml, by tools/compose_env.py\n")
        written.writelines(f"{name}='{value}'\n" for name, value in values().items())
    print(f"{file} is made.")
    if is_renewed:
        print("The volumes still have the passwords of .env.old. To start anew, without all they hold:")
        print("docker compose down --volumes")
    print("Next: docker compose up --build --detach")
    print("The web page is then http://localhost:8080; user admin, password ADMIN_PASSWORD of that file.")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the file .env of docker-compose.yaml.")
    parser.add_argument("--renew", action="store_true", help="even if there is one, which becomes .env.old")
    sys.exit(main(renew=parser.parse_args().renew))
