"""One installation of Airflow: its folder, its database, and the services that make it run."""

import hashlib
import json
import os
import secrets
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import psycopg2.errors
import requests
from psycopg2 import sql

from tools.exceptions import StackError
from tools.kept import Kept
from tools.ports import free_port, is_free
from tools.private_files import write_private
from tools.processes import ProcessFolder, end
from tools.user_settings import is_user_setting

CHECKOUT = Path(__file__).resolve().parents[1]
PROGRAMS = Path(sys.executable).parent  # of this virtual environment, not resolved to the base installation
SERVICES: Mapping[str, Sequence[str]] = {
    name: [name] for name in ("api-server", "scheduler", "dag-processor", "triggerer")
}
"""On one machine: ``{name: arguments of the command airflow}``."""

PORTS = {"api-server": "api", "scheduler": "worker log", "triggerer": "trigger log"}
MIGRATE_SECONDS = 180
REQUEST_SECONDS = 10
YOUNG_SECONDS = 60  # a service of this age that was never ready may still be starting


class AirflowServices:
    """
    Airflow with the DAGs and plugins of this checkout, on PostgreSQL, with tasks on this machine.

    The ledger is a database of its own on the same server, ``<name>_ledger``.

    :param folder: AIRFLOW_HOME; keeps the logs, keys and the password.
    :param database_url: ``postgresql://…/name``; the database is made when it is missing.
    :param environment: further variables of the services, such as connections; they replace own settings.
    :param services: as ``SERVICES``, which are among them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        database_url: str,
        environment: Mapping[str, str],
        services: Mapping[str, Sequence[str]] = SERVICES,
    ) -> None:
        self.folder = folder
        self.database_url = database_url
        self._extra = dict(environment)
        self._kept = Kept(folder / "kept.json")
        self.services = services
        self._places = {name: ProcessFolder(folder / name) for name in services}
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy between us and this machine

    @property
    def url(self) -> str:
        """The web page, and the root of the REST API."""
        return f"http://127.0.0.1:{self._port('api')}"

    @property
    def password(self) -> str:
        """Of the user ``admin``."""
        return str(self._kept.get("password", lambda: secrets.token_urlsafe(12)))

    def _port(self, purpose: str) -> int:
        return int(self._kept.local(f"{purpose} port", free_port))

    def _secret(self, name: str) -> str:
        return str(self._kept.get(name, lambda: secrets.token_urlsafe(64)))

    @property
    def _fernet_key(self) -> str:
        return str(self._kept.get("fernet key", lambda: urlsafe_b64encode(secrets.token_bytes(32)).decode()))

    @property
    def _passwords_file(self) -> Path:
        return self.folder / "passwords.json"

    @property
    def settings(self) -> dict[str, str]:
        """The variables that make an ``airflow`` command belong to this installation."""
        return {
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(CHECKOUT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(CHECKOUT / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "event_hooks.runtime.executor.RevokingLocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "8",
            "AIRFLOW__CORE__FERNET_KEY": self._fernet_key,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self._passwords_file),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self._sqlalchemy_url,
            "AIRFLOW_CONN_EVENT_LEDGER": self.ledger_url,
            "AIRFLOW_CONN_EVENT_SERVER": f"http://admin:{self.password}@127.0.0.1:{self._port('api')}",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self._port("api")),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": self._secret("api secret"),
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secret("jwt secret"),
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.folder / "logs"),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(self._port("worker log")),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(self._port("trigger log")),
            "PYTHONPATH": str(CHECKOUT / "plugins"),
            "NO_PROXY": "127.0.0.1,localhost",
            **self._extra,
        }

    @property
    def ledger_url(self) -> str:
        """Where the ledger is."""
        return f"{self.database_url}_ledger"

    @property
    def _sqlalchemy_url(self) -> str:
        return self.database_url.replace("postgresql://", "postgresql+psycopg2://", 1)

    @property
    def environment(self) -> dict[str, str]:
        """
        The complete environment of any ``airflow`` command, without settings of another installation.

        ``EVENT_URI`` is one: in ``.stack/env`` it is the client's address.
        """
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name != "EVENT_URI" and not name.startswith("AIRFLOW_") and not is_user_setting(name)
        }
        path = os.pathsep.join([str(PROGRAMS), os.environ.get("PATH", os.defpath)])
        return {**inherited, "PATH": path, **self.settings}

    def prepare(self) -> None:
        """Make the database and the password file, and migrate the tables; quick when all is there."""
        self._write_passwords()
        self._create_database(self.database_url)
        self._create_database(self.ledger_url)
        ledger = ProcessFolder(self.folder / "ledger")
        migrate = [sys.executable, "-m", "event_hooks.ledger", "migrate"]
        ledger.run(migrate, self.environment, MIGRATE_SECONDS)
        if self._kept.get("migrated", list) == self._database_version():
            return
        migration = ProcessFolder(self.folder / "migration")
        migration.run([str(PROGRAMS / "airflow"), "db", "migrate"], self.environment, MIGRATE_SECONDS)
        self._kept.set("migrated", self._database_version())

    def is_prepared(self) -> bool:
        """Return whether :meth:`prepare` has migrated the databases with this version of Airflow."""
        try:
            return bool(self._kept.get("migrated", list) == self._database_version())
        except psycopg2.OperationalError:
            return False  # there is no such database

    def _write_passwords(self) -> None:
        write_private(self._passwords_file, json.dumps({"admin": self.password}) + "\n")

    def run(self, *command: str) -> None:
        """Run an ``airflow`` command, such as ``pools set …``."""
        place = ProcessFolder(self.folder / "command")
        place.run([str(PROGRAMS / "airflow"), *command], self.environment, MIGRATE_SECONDS)

    def copy_databases(self, template: "AirflowServices") -> None:
        """
        Do what :meth:`prepare` does, by copies of the databases of a prepared installation that does not run.

        They are on the same server. A database that exists already is left as it is.
        """
        self._write_passwords()
        self._create_database(self.database_url, template.database_url.rpartition("/")[2])
        self._create_database(self.ledger_url, template.ledger_url.rpartition("/")[2])
        self._kept.set("migrated", template._database_version())

    def _create_database(self, url: str, template: str = "template1") -> None:
        """Create a database unless it exists; ``template1`` is PostgreSQL's own default."""
        parts = urlsplit(url)
        name = parts.path.strip("/")
        server = psycopg2.connect(parts._replace(path="/postgres").geturl(), connect_timeout=REQUEST_SECONDS)
        server.autocommit = True  # a database cannot be made inside a transaction
        try:
            with server.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
                if not cursor.fetchone():
                    create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
                    cursor.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
        finally:
            server.close()

    def _database_version(self) -> list[str]:
        """Give Airflow's version and that of its tables, nothing if there are none."""
        connection = psycopg2.connect(self.database_url, connect_timeout=REQUEST_SECONDS)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT version_num FROM alembic_version")
                return [version("apache-airflow"), *(row[0] for row in cursor.fetchall())]
        except psycopg2.errors.UndefinedTable:
            return ["no tables"]
        finally:
            connection.close()

    def start(self) -> list[str]:
        """
        Start each service that does not run well, after ending what is left of it.

        All are started anew when their settings have changed since.

        :return: the names of those started.
        """
        broken = self.broken()
        for name in broken:
            self.kill(name)
            if name in PORTS and not is_free("127.0.0.1", self._port(PORTS[name])):
                self._kept.renew(f"{PORTS[name]} port", free_port)
        if self.has_other_settings():
            self.stop()
            broken = list(self.services)
        self._kept.set("started with", self._fingerprint())
        for name in broken:
            self.start_service(name)
        return broken

    def has_other_settings(self) -> bool:
        """Return whether the settings have changed since the services were started."""
        return bool(self._kept.get("started with", str) != self._fingerprint())

    def _fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()

    def start_service(self, name: str) -> None:
        """Start one of ``services``, after ending what is left of it."""
        place = self._places[name]
        place.kill()
        place.start([str(PROGRAMS / "airflow"), *self.services[name]], self.environment)

    def kill(self, name: str) -> None:
        """End a service as a crash would: SIGKILL to all of its processes."""
        self._places[name].kill()

    def stop(self, seconds: float = 15) -> int:
        """End all services; those that take longer are killed. Give the number of processes there were."""
        return end(self._places.values(), seconds=seconds)

    @property
    def places(self) -> Mapping[str, ProcessFolder]:
        """Where each service works: its processes and its log."""
        return self._places

    def broken(self) -> list[str]:
        """Give the services that do not run, or no longer well; one that still starts is not among them."""
        health = self._health()
        return [name for name in self.services if not self._well(name, health) and not self._starting(name)]

    def _starting(self, name: str) -> bool:
        leader = self._places[name].leader()
        if leader is None or leader.pid in self._kept.get("ready", list):
            return False
        return time.time() - leader.create_time() < YOUNG_SECONDS

    def _well(self, name: str, health: Mapping[str, Any]) -> bool:
        leader = self._places[name].leader()
        if leader is None:
            return False
        if name == "api-server":
            return bool(health)
        if not health or name not in SERVICES:
            return True  # nothing known against it
        report = health[name.replace("-", "_")]
        heartbeat = report[f"latest_{name.replace('-', '_')}_heartbeat"]
        # A dead one counts as healthy for half a minute: the heartbeat must be of the one that runs now
        beats = heartbeat is not None and datetime.fromisoformat(heartbeat).timestamp() > leader.create_time()
        return bool(report["status"] == "healthy" and beats)

    def _health(self) -> dict[str, Any]:
        try:
            answer = self._session.get(f"{self.url}/api/v2/monitor/health", timeout=REQUEST_SECONDS)
            answer.raise_for_status()
        except requests.RequestException:
            return {}
        return dict(answer.json())

    def token(self, user: str = "admin") -> str:
        """Log in, and give what goes into ``Authorization: Bearer …``."""
        passwords = json.loads(self._passwords_file.read_text())
        login = {"username": user, "password": passwords[user]}
        answer = self._session.post(f"{self.url}/auth/token", json=login, timeout=REQUEST_SECONDS)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def wait_ready(self, seconds: float = 180) -> None:
        """
        Wait until all services are healthy and every file in ``dags/`` has its DAG.

        :raises StackError: a service ended, a DAG file does not load, or the time is over.
        """
        started = time.time()
        limit = time.monotonic() + seconds
        while waiting_for := self._missing(started):
            for name, place in self._places.items():
                if not place.leader():
                    raise place.failure(f"Airflow's {name} ended while starting")
            if time.monotonic() > limit:
                culprit = self._places.get(waiting_for[0], self._places["dag-processor"])
                raise culprit.failure(
                    f"Airflow is not ready after {seconds:.0f} s: no {', '.join(waiting_for)}"
                )
            time.sleep(0.25)
        self._kept.set("ready", [leader.pid for place in self._places.values() if (leader := place.leader())])

    def _missing(self, started: float) -> list[str]:
        health = self._health()
        if missing := [name for name in self.services if not health or not self._well(name, health)]:
            return missing
        try:
            return self._missing_dags(started)
        except requests.RequestException:
            return ["api-server"]

    def _missing_dags(self, started: float) -> list[str]:
        headers = {"Authorization": f"Bearer {self.token()}"}
        dags = self._get("dags", headers)["dags"]
        expected = {path.stem for path in (CHECKOUT / "dags").glob("*.py")}
        missing = sorted(expected - {dag["dag_id"] for dag in dags})
        for error in self._get("importErrors", headers)["import_errors"] if missing else []:
            # An older error may be of a file that has been put right since
            is_new = datetime.fromisoformat(error["timestamp"]).timestamp() > started
            if is_new and Path(error["filename"]).stem in missing:
                raise StackError(f"the DAG file {error['filename']} does not load:\n{error['stack_trace']}")
        return [f"DAG {name}" for name in missing]

    def _get(self, path: str, headers: Mapping[str, str]) -> dict[str, Any]:
        answer = self._session.get(f"{self.url}/api/v2/{path}", headers=headers, timeout=REQUEST_SECONDS)
        answer.raise_for_status()
        return dict(answer.json())
